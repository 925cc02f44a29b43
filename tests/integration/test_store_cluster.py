"""Three real nodes, each shard on two of them: one is killed while a load and searches go on, and comes back."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from search_core.errors import StoreUnavailableError
from search_core.model import resolve_model
from search_core.points import Batch
from search_core.qdrant import QdrantStore
from search_core.settings import QdrantSettings
from tests.fixtures.processes import until
from tests.fixtures.qdrant_cluster import NODES, QdrantCluster, QdrantNode
from tests.fixtures.stores import everything, points_of

NAME = "images__test__20260101T000000000"
SPEC = resolve_model("fake/64")
SHARDS, REPLICAS = 6, 2
BATCHES, BATCH, WRITERS = 120, 50, 4
SAMPLES = 40


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[QdrantCluster]:
    with QdrantCluster(tmp_path / "cluster") as cluster:
        yield cluster


class Load:
    """Writers that share the batches; `acknowledged` are the numbers of those that the store has taken."""

    def __init__(self, store: QdrantStore, batches: list[Batch]) -> None:
        self.acknowledged: list[int] = []
        self._store = store
        self._batches = batches
        self._waiting = iter(range(len(batches)))
        self._reached: dict[int, asyncio.Event] = defaultdict(asyncio.Event)

    async def run(self) -> None:
        await asyncio.gather(*(self._writer() for _ in range(WRITERS)))

    async def reached(self, count: int) -> None:
        """Waits for so many acknowledged batches."""
        await self._reached[count].wait()

    async def _writer(self) -> None:
        for number in self._waiting:
            await self._store.upsert(NAME, self._batches[number])
            self.acknowledged.append(number)
            self._reached[len(self.acknowledged)].set()


class Searches:
    """One search after the other for as long as the load runs: what has been acknowledged is found."""

    def __init__(self, store: QdrantStore, batches: list[Batch], load: Load, chance: random.Random) -> None:
        self.done = 0
        self._store = store
        self._batches = batches
        self._load = load
        self._chance = chance

    async def run(self) -> None:
        await self._load.reached(1)
        while len(self._load.acknowledged) < len(self._batches):
            batch = self._batches[self._chance.choice(self._load.acknowledged)]
            row = self._chance.randrange(BATCH)
            hits = await self._store.query(NAME, batch.vectors[row], limit=10)
            assert hits[0].id == batch.ids[row]
            self.done += 1


def states(node: QdrantNode) -> list[str]:
    return [replica["state"] for replica in QdrantCluster.replicas(node, NAME)]


async def test_a_node_that_dies_under_a_load_costs_no_acknowledged_point(cluster, tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    chance = random.Random(seed)
    victim = cluster.nodes[chance.randrange(NODES)]
    kill_after = chance.randrange(BATCHES // 6, BATCHES // 2)
    settings = cluster.settings(
        tmp_path,
        first=victim,
        timeout_s=10,
        qdrant=QdrantSettings(shards=SHARDS, replicas=REPLICAS),
    )
    store = QdrantStore(settings)
    await store.create(NAME, SPEC)
    for node in cluster.nodes:
        until(lambda node=node: states(node) == ["Active"] * SHARDS * REPLICAS)

    batches = [
        points_of(BATCH, first=number * BATCH, dim=SPEC.dim, seed=seed % 1000) for number in range(BATCHES)
    ]
    vectors = np.concatenate([batch.vectors for batch in batches])
    ids = [id for batch in batches for id in batch.ids]
    load = Load(store, batches)
    searches = Searches(store, batches, load, chance)
    running = asyncio.gather(load.run(), searches.run())
    await load.reached(kill_after)
    victim.kill()
    searched = searches.done
    await running
    assert searches.done > searched + 5
    assert sorted(load.acknowledged) == list(range(BATCHES))

    assert await store.count(NAME) == len(ids)
    assert {point.id for point in await everything(store, NAME)} == set(ids)
    for row in chance.sample(range(len(ids)), SAMPLES):
        best = (await store.query(NAME, vectors[row], limit=1, exact=True))[0]
        assert best.id == ids[row]
        assert best.score == pytest.approx(1, abs=1e-4)

    victim.start()
    await asyncio.to_thread(until, victim.is_ready)
    for node in cluster.nodes:
        await asyncio.to_thread(until, lambda node=node: states(node) == ["Active"] * SHARDS * REPLICAS)
    counts = defaultdict(list)
    for node in cluster.nodes:
        for shard in node.ask(f"/collections/{NAME}/cluster")["local_shards"]:
            counts[shard["shard_id"]].append(shard["points_count"])
    assert len(counts) == SHARDS
    assert all(len(of) == REPLICAS and len(set(of)) == 1 for of in counts.values()), dict(counts)
    assert sum(of[0] for of in counts.values()) == len(ids)
    for node in cluster.nodes:
        assert node.ask(f"/collections/{NAME}/points/count", {"exact": True}, "POST")["count"] == len(ids)
    await store.close()


async def test_where_every_replica_must_have_a_write_none_is_acknowledged_while_a_node_is_away(
    cluster, tmp_path
):
    settings = cluster.settings(
        tmp_path,
        first=cluster.nodes[0],
        timeout_s=10,
        qdrant=QdrantSettings(shards=SHARDS, replicas=REPLICAS, write_consistency=REPLICAS),
    )
    store = QdrantStore(settings)
    await store.create(NAME, SPEC)
    batch = points_of(BATCH, dim=SPEC.dim)
    await store.upsert(NAME, batch)
    away = cluster.nodes[2]
    away.kill()
    with pytest.raises(StoreUnavailableError) as caught:
        await store.upsert(NAME, points_of(BATCH, first=BATCH, dim=SPEC.dim))
    assert "\n" not in str(caught.value)
    assert (await store.query(NAME, batch.vectors[7], limit=1))[0].id == batch.ids[7]
    away.start()
    await asyncio.to_thread(until, away.is_ready)
    for node in cluster.nodes:
        await asyncio.to_thread(until, lambda node=node: states(node) == ["Active"] * SHARDS * REPLICAS)
    await store.upsert(NAME, points_of(BATCH, first=BATCH, dim=SPEC.dim))
    assert await store.count(NAME) == 2 * BATCH
    await store.close()
