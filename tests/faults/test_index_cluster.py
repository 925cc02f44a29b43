"""Index runs into three real Qdrant nodes, each shard on two of them, one of which is killed at a counted moment.

The run itself goes on with the nodes that are left. IMAGE_SEARCH_FAULT_SEED replays a seed.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from batch_index.plan_file import SHARD_ROWS
from search_core.settings import StoreSettings
from search_core.stores import open_store
from tests.fixtures.qdrant_cluster import QdrantCluster
from tests.fixtures.struck_run import BATCH, StruckRun, fill

pytestmark = pytest.mark.timeout(600)
GOOD = 3 * SHARD_ROWS - 30
MAX_IN_FLIGHT = SHARD_ROWS
SHARDS, REPLICAS = 3, 2
MOMENTS = {"acknowledged": "any", "building": "any", "before publish": "leader"}
"""And which node is struck: without their leader the nodes agree on nothing, until they have another one."""
SEED = int(os.environ["IMAGE_SEARCH_FAULT_SEED"])  # of the whole test run (tests/conftest.py)


@pytest.fixture
def cluster(tmp_path: Path):
    with QdrantCluster(tmp_path / "cluster") as cluster:
        yield cluster


def unindexed(settings: StoreSettings, name: str) -> int:
    async def asking() -> int:
        store = open_store(settings)
        try:
            return await store.unindexed(name)
        finally:
            await store.close()

    return asyncio.run(asking())


@pytest.mark.parametrize(("moment", "which"), MOMENTS.items())
def test_a_run_goes_on_without_a_node(moment, which, cluster, tmp_path):
    draw = random.Random(f"{SEED} {moment}")
    count = draw.randint(1, GOOD // BATCH - 1) if moment == "acknowledged" else 1
    first, struck = draw.choices(cluster.nodes, k=2)
    if which == "leader":
        struck = cluster.leader()
    number = cluster.nodes.index(struck)
    print(f"IMAGE_SEARCH_FAULT_SEED={SEED}: node {number} at {moment} {count}")  # noqa: T201
    settings = cluster.settings(tmp_path / ".image-search", first=first)
    assert settings.qdrant_url
    run = StruckRun(
        tmp_path,
        settings,
        ["--qdrant-url", settings.qdrant_url],
        [(count, moment, "qdrant")],
        in_flight=MAX_IN_FLIGHT,
        IMAGE_SEARCH_STORE__QDRANT__SHARDS=str(SHARDS),
        IMAGE_SEARCH_STORE__QDRANT__REPLICAS=str(REPLICAS),
    )
    run.pids["qdrant"] = lambda: struck.pid
    good, broken = fill(tmp_path / "pictures", GOOD)
    code, _, errors = run.index(tmp_path / "pictures")
    assert (code, errors, run.left) == (0, "", []), errors
    run.commands.assert_nothing_left()

    collection = run.assert_done(good, broken)
    assert unindexed(settings, collection.name) == 0
    for node in cluster.nodes:
        if node is not struck:
            counted = node.ask(f"/collections/{collection.name}/points/count", {"exact": True}, "POST")
            assert counted["count"] == GOOD
