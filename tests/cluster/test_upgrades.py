"""New code, a new collection and a new model roll in under load without a failed request; what is sick does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from search_core.addresses import local_path
from search_core.collections import publish, rollback
from search_core.encoder import load_encoder
from search_core.model import ModelSpec, resolve_model
from search_core.points import Batch
from search_core.preprocess import Pixels, pixels_of
from search_core.settings import ImageSettings, ModelSettings
from search_core.store import new_collection_name
from search_core.stores import open_store
from tests.fixtures.load import load
from tests.fixtures.processes import until
from tests.fixtures.queries import of_all_kinds, red
from tests.fixtures.rehearsal import Rehearsal

CLIENTS = 6


def status(rehearsal: Rehearsal) -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(
        f"{rehearsal.cluster.urls[0]}/api/status", timeout=60, trust_env=False
    ).json()
    return body


def deploy_code(rehearsal: Rehearsal, name: str) -> None:
    config = rehearsal.changed()
    config["applications"][0]["import_path"] = f"tests.fixtures.other_code:{name}"
    rehearsal.cluster.deploy(config)


@pytest.mark.long
def test_new_code_rolls_in_and_sick_code_does_not(rehearsal: Rehearsal) -> None:
    cluster, ids = rehearsal.cluster, rehearsal.ids["red"]
    old = {one.id for one in cluster.details().replicas if one.deployment == "TextEncoder"}
    with load(cluster.urls, CLIENTS, of_all_kinds(ids), check=red(ids)) as running:
        running.until_answered(20)
        deploy_code(rehearsal, "new_app")
        cluster.until(
            lambda now: (
                now.applications["search"] == "RUNNING"
                and now.count("TextEncoder") > 0
                and not now.stopping
                and not old & {one.id for one in now.replicas}
            )
        )
        assert status(rehearsal)["encoders"]["text"]["device"] == "new"
        running.until_answered(20)
        deploy_code(rehearsal, "sick_app")
        cluster.until(lambda now: now.applications["search"] in {"DEPLOY_FAILED", "UNHEALTHY"})
        running.until_answered(20)
        assert status(rehearsal)["encoders"]["text"]["device"] == "new"
        cluster.deploy(rehearsal.config)
        cluster.until_running()
        running.until_answered(20)


def test_another_collection_without_a_restart(rehearsal: Rehearsal) -> None:
    cluster, ids = rehearsal.cluster, rehearsal.ids["red"]
    asyncio.run(publish_again(rehearsal, "second", "fake"))
    before = cluster.details().replicas
    with load(cluster.urls, CLIENTS, of_all_kinds(ids), check=red(ids)) as running:
        running.until_answered(20)
        follow(rehearsal, "second")
        running.until_answered(20)
        follow(rehearsal, "images")
        running.until_answered(20)
    assert set(cluster.details().replicas) >= set(before)


@pytest.mark.long
def test_another_model(rehearsal: Rehearsal) -> None:
    cluster, ids = rehearsal.cluster, rehearsal.ids["red"]
    with load(cluster.urls, CLIENTS, of_all_kinds(ids), check=red(ids)) as running:
        running.until_answered(20)
        asyncio.run(publish_again(rehearsal, "images", "fake/32"))
        until_served(rehearsal, lambda now: now["model"] == "fake/32")
        running.until_answered(20)
        asyncio.run(back(rehearsal))
        until_served(rehearsal, lambda now: now["model"] == "fake")
        running.until_answered(20)


def follow(rehearsal: Rehearsal, alias: str) -> None:
    """Deploys the config with another alias and another search effort, and waits until it is served."""
    config = rehearsal.changed()
    deployments = {one["name"]: one for one in config["applications"][0]["deployments"]}
    deployments["Retrieval"]["user_config"] = {"collection": alias, "hnsw_ef": 64, "oversampling": None}
    rehearsal.cluster.deploy(config)
    until_served(rehearsal, lambda now: now["collection"].startswith(f"{alias}__"))


def until_served(rehearsal: Rehearsal, what: Callable[[dict[str, Any]], bool]) -> None:
    """Waits for many answers in a row of which it is true: each replica of the API looks by itself."""
    until(lambda: all(what(status(rehearsal)) for _ in range(10)))


async def publish_again(rehearsal: Rehearsal, alias: str, model: str) -> None:
    """The red pictures once more, in a collection of its own."""
    store, spec = open_store(rehearsal.settings), resolve_model(model)
    points = await store.retrieve("images", rehearsal.ids["red"])
    pixels = [pixels_at(str(point.payload["uri"]), spec) for point in points]
    vectors = load_encoder(spec, ModelSettings()).encode_pixels(np.stack(pixels))
    name = new_collection_name(alias, spec)
    await store.create(name, spec)
    await store.upsert(name, Batch([one.id for one in points], vectors, [one.payload for one in points]))
    await publish(store, alias, name)
    await store.close()


def pixels_at(uri: str, spec: ModelSpec) -> Pixels:
    path = local_path(uri)
    assert path is not None
    return pixels_of(path.read_bytes(), spec.preprocess, ImageSettings())


async def back(rehearsal: Rehearsal) -> None:
    store = open_store(rehearsal.settings)
    await rollback(store, "images")
    await store.close()
