"""One cluster for the tests of this folder: three nodes that serve cluster/serve-cluster.yaml from a Qdrant server."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from search_core.settings import StoreSettings
from tests.fixtures.commands import ROOT
from tests.fixtures.qdrant_server import QdrantServer
from tests.fixtures.serve_cluster import ServeCluster
from tests.fixtures.served import Served
from tests.fixtures.slow_proxy import SlowProxy, slow_proxy

FAKE_DELAY_MS = 30


@dataclass
class Rehearsal:
    """The cluster, what is in its store, how slow that is, and the config that is deployed."""

    cluster: ServeCluster
    store: SlowProxy
    settings: StoreSettings
    ids: dict[str, list[str]]
    config: dict[str, Any]

    def changed(self) -> dict[str, Any]:
        """A copy of the config, to change."""
        return copy.deepcopy(self.config)


def quick(config: dict[str, Any]) -> dict[str, Any]:
    """The config with an autoscaler that decides in seconds, at the load of few clients."""
    for application in config["applications"]:
        for deployment in application["deployments"]:
            if "autoscaling_config" in deployment:
                deployment["autoscaling_config"].update(
                    min_replicas=1,
                    max_replicas=3,
                    upscale_delay_s=1,
                    downscale_delay_s=4,
                    look_back_period_s=2,
                )
                if deployment["name"] != "Api":
                    deployment["autoscaling_config"]["target_ongoing_requests"] = 4
            deployment["graceful_shutdown_wait_loop_s"] = 0.5
            deployment["health_check_period_s"] = 1
    return config


@pytest.fixture(scope="session")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    folder = tmp_path_factory.mktemp("cluster")
    with QdrantServer(folder / "qdrant") as qdrant, slow_proxy(qdrant.grpc_port) as slow:
        store = StoreSettings(path=folder / "store", qdrant_url=f"{qdrant.url}#grpc={slow.port}")
        served = Served(store)
        served.index()
        config = quick(yaml.safe_load((ROOT / "cluster" / "serve-cluster.yaml").read_text(encoding="utf-8")))
        with ServeCluster(
            2,
            IMAGE_SEARCH_MODEL__NAME="fake",
            IMAGE_SEARCH_MODEL__FAKE_DELAY_MS=str(FAKE_DELAY_MS),
            IMAGE_SEARCH_STORE__PATH=str(store.path),
            IMAGE_SEARCH_STORE__QDRANT_URL=str(store.qdrant_url),
        ) as cluster:
            cluster.deploy(config)
            cluster.until_running()
            yield Rehearsal(cluster, slow, store, served.ids, config)
