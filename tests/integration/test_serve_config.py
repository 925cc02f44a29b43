"""The Serve config deployed by Serve itself, as on a cluster: builders import the applications, settings come by environment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from cluster import serve_configs
from search_core.settings import StoreSettings
from tests.fixtures.ports import free_port
from tests.fixtures.qdrant_server import QdrantServer
from tests.fixtures.served import Served


@pytest.fixture
def server(tmp_path: Path, qdrant_server: QdrantServer, local_ray: str) -> Iterator[Served]:
    store = StoreSettings(
        path=tmp_path / "store", qdrant_url=qdrant_server.url, qdrant_grpc_port=qdrant_server.grpc_port
    )
    server = Served(store, port=free_port())
    server.index()
    serve.start(http_options={"host": "127.0.0.1", "port": server.port})
    yield server
    serve.shutdown()


def deploy(config: ServeDeploySchema) -> None:
    _get_global_client().deploy_apps(config, _blocking=True)


def with_settings(config: ServeDeploySchema, store: StoreSettings) -> ServeDeploySchema:
    environment = {
        "IMAGE_SEARCH_MODEL__NAME": "fake",
        "IMAGE_SEARCH_STORE__PATH": str(store.path),
        "IMAGE_SEARCH_STORE__QDRANT_URL": str(store.qdrant_url),
        "IMAGE_SEARCH_STORE__QDRANT_GRPC_PORT": str(store.qdrant_grpc_port),
    }
    for app in config.applications:
        app.runtime_env = {"env_vars": environment}
    return config


async def test_both_applications_from_the_config_and_a_change_without_restart(server: Served) -> None:
    config = with_settings(serve_configs.load("local"), server.store)
    await asyncio.to_thread(deploy, config)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
        assert (await client.get("/api/ready")).json()["total_indexed"] == 30
        assert (await client.get("/")).headers["content-type"].startswith("text/html")
        hits = (await client.get("/api/search", params={"q": "red", "limit": 3})).json()["hits"]
        assert {hit["id"] for hit in hits} == set(server.ids["red"])

        api = next(one for one in config.applications[0].deployments if one.name == "Api")
        api.user_config = {"max_in_flight": 1}
        await asyncio.to_thread(deploy, config)
        statuses = await _hammer(client)
        assert set(statuses) == {200, 503}


async def _hammer(client: httpx.AsyncClient) -> list[int]:
    """Statuses of many requests at once; those refused are problems that say when to come back."""
    answers = await asyncio.gather(*(client.get("/api/search", params={"q": f"red {n}"}) for n in range(40)))
    for answer in answers:
        if answer.status_code != httpx.codes.OK:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"]
    return [answer.status_code for answer in answers]
