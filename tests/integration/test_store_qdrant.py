"""What only a Qdrant server has: it can be away, be shared with others, and be left half way."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from search_core.errors import NotFoundError, StoreError, StoreUnavailableError
from search_core.model import resolve_model
from search_core.points import INTEGER_FIELDS, KEYWORD_FIELDS, Batch
from search_core.qdrant import QdrantStore
from search_core.settings import QdrantSettings, StoreSettings
from search_core.store import new_metadata
from tests.fixtures.ports import free_ports
from tests.fixtures.processes import until
from tests.fixtures.qdrant_server import QdrantServer
from tests.fixtures.stores import SPEC, by_score, everything, points_of, unit_vectors

NAME = "images__test__20260101T000000000"
MIDDLE = resolve_model("fake/128")
WIDE = resolve_model("fake/1024")


@pytest.fixture
async def store(qdrant_server: QdrantServer, tmp_path):
    qdrant_server.clear()
    store = QdrantStore(qdrant_server.settings(tmp_path))
    yield store
    await store.close()


async def answering(store: QdrantStore) -> None:
    """gRPC remembers for a while that nobody was there."""
    deadline = time.monotonic() + 120
    while True:
        try:
            await store.aliases()
        except StoreUnavailableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        else:
            return


async def test_what_is_written_survives_a_restart_and_the_time_between_is_one_line(tmp_path):
    with QdrantServer(tmp_path / "server") as server:
        store = QdrantStore(server.settings(tmp_path, timeout_s=5))
        await store.create(NAME, SPEC)
        await store.publish("images", NAME)
        await store.upsert(NAME, points_of(60))
        server.stop()
        calls = [
            lambda: store.count(NAME),
            lambda: store.upsert(NAME, points_of(1)),
            lambda: store.query(NAME, unit_vectors(1)[0], limit=1),
            store.aliases,
            store.collections,
        ]
        for call in calls:
            with pytest.raises(
                StoreUnavailableError, match=f"the Qdrant server at {server.url} does not answer"
            ) as caught:
                await call()
            assert "\n" not in str(caught.value)
        await store.close()
        server.start()
        await asyncio.to_thread(until, server.is_ready)
        store = QdrantStore(server.settings(tmp_path))
        await answering(store)
        assert await store.aliases() == {"images": NAME}
        assert {point.id for point in await everything(store, NAME)} == set(points_of(60).ids)
        assert (await store.describe(NAME)).spec == SPEC
        await store.close()


async def test_a_server_that_never_was_is_one_line(tmp_path):
    http, grpc = free_ports(2)
    settings = StoreSettings(
        path=tmp_path, qdrant_url=f"http://127.0.0.1:{http}", qdrant_grpc_port=grpc, timeout_s=2
    )
    store = QdrantStore(settings)
    with pytest.raises(StoreUnavailableError, match="does not answer") as caught:
        await store.collections()
    assert "\n" not in str(caught.value)
    await store.close()


async def test_the_next_node_answers_for_one_that_is_not_there(qdrant_server, tmp_path):
    http, grpc = free_ports(2)
    store = QdrantStore(qdrant_server.settings(tmp_path, before=f"http://127.0.0.1:{http}#grpc={grpc}, "))
    qdrant_server.clear()
    await store.create(NAME, SPEC)
    await store.upsert(NAME, points_of(6))
    assert await store.count(NAME) == 6
    await store.close()


async def test_the_next_node_answers_for_one_that_is_silent(qdrant_server, tmp_path):
    """It takes the connection, and that is all."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        settings = qdrant_server.settings(
            tmp_path, before=f"http://127.0.0.1:{port}#grpc={port},", timeout_s=2
        )
        store = QdrantStore(settings)
        assert await store.aliases() == {}
        started = time.monotonic()
        assert await store.aliases() == {}
        assert time.monotonic() - started < 1  # the silent one is not asked again
        await store.close()


async def test_collections_of_others_are_left_alone(store, qdrant_server):
    qdrant_server.ask("/collections/theirs", {"vectors": {"size": 3, "distance": "Dot"}}, "PUT")
    await store.create(NAME, SPEC)
    assert [collection.name for collection in await store.collections()] == [NAME]
    assert qdrant_server.ask("/collections/theirs")["config"]["params"]["vectors"]["size"] == 3


async def test_a_creation_that_was_cut_off_is_completed(store, qdrant_server):
    """The collection was made, its payload indexes were not: facets would fail for ever."""
    body = {"vectors": {"size": SPEC.dim, "distance": "Cosine"}, "metadata": new_metadata(SPEC)}
    qdrant_server.ask(f"/collections/{NAME}", body, "PUT")
    await store.upsert(NAME, points_of(6))
    with pytest.raises(StoreError):
        await store.facet(NAME, "folder")
    await store.create(NAME, SPEC)
    assert await store.facet(NAME, "folder") == {"cats": 2, "birds": 2, "dogs": 2}
    schema = qdrant_server.ask(f"/collections/{NAME}")["payload_schema"]
    assert set(schema) == {*KEYWORD_FIELDS, *INTEGER_FIELDS}
    assert await store.count(NAME) == 6


async def test_the_server_compares_by_cosine_in_the_dimension_of_the_model(store, qdrant_server):
    await store.create(NAME, SPEC)
    config = qdrant_server.ask(f"/collections/{NAME}")["config"]
    assert config["params"]["vectors"] == {"size": SPEC.dim, "distance": "Cosine"}
    assert config["metadata"]["fingerprint"] == SPEC.fingerprint


async def test_a_collection_is_made_as_the_settings_say(qdrant_server, tmp_path):
    wanted = QdrantSettings(
        shards=3,
        replicas=2,
        write_consistency=2,
        vectors_on_disk=True,
        payload_on_disk=False,
        payload_indexes=("taken:datetime", "camera:keyword"),
        hnsw_m=24,
        hnsw_ef_construct=200,
        quantization="int8",
        always_ram=False,
    )
    qdrant_server.clear()
    store = QdrantStore(qdrant_server.settings(tmp_path, qdrant=wanted))
    await store.create(NAME, SPEC)
    made = qdrant_server.ask(f"/collections/{NAME}")
    assert made["config"]["params"] == {
        "vectors": {"size": SPEC.dim, "distance": "Cosine", "on_disk": True},
        "shard_number": 3,
        "replication_factor": 2,
        "write_consistency_factor": 2,
        "on_disk_payload": False,
    }
    assert made["config"]["hnsw_config"]["m"] == 24
    assert made["config"]["hnsw_config"]["ef_construct"] == 200
    assert made["config"]["quantization_config"] == {"scalar": {"type": "int8", "always_ram": False}}
    kinds = {name: index["data_type"] for name, index in made["payload_schema"].items()}
    assert kinds == {
        **dict.fromkeys(KEYWORD_FIELDS, "keyword"),
        **dict.fromkeys(INTEGER_FIELDS, "integer"),
        "taken": "datetime",
        "camera": "keyword",
    }
    batch = points_of(6)
    cameras = [{**payload, "camera": "Leica"} for payload in batch.payloads]
    await store.upsert(NAME, Batch(batch.ids, batch.vectors, cameras))
    assert await store.facet(NAME, "camera") == {"Leica": 6}
    await store.close()


@pytest.mark.parametrize("quantization", ["int8", "binary", "product"])
async def test_what_quantized_vectors_find_is_rescored_as_the_settings_say(
    quantization, qdrant_server, tmp_path, monkeypatch
):
    monkeypatch.setattr("search_core.qdrant.INDEXING_THRESHOLD_KB", 100)

    def opened(**changes: Any) -> QdrantStore:
        return QdrantStore(
            qdrant_server.settings(tmp_path, qdrant=QdrantSettings(quantization=quantization, **changes))
        )

    qdrant_server.clear()
    batch = points_of(1000, dim=MIDDLE.dim)
    store, raw, wide = opened(), opened(rescore=False), opened(oversampling=100.0)
    await store.create(NAME, MIDDLE)
    await store.upsert(NAME, batch)
    await store.optimize(NAME)
    queries = unit_vectors(20, MIDDLE.dim, seed=5)
    found = dict.fromkeys((store, raw, wide), 0)
    for vector in queries:
        exact = by_score(batch, vector)[:10]
        assert [hit.id for hit in await store.query(NAME, vector, limit=10, exact=True)] == [
            id for id, _ in exact
        ]
        for one in found:
            hits = await one.query(NAME, vector, limit=10)
            found[one] += len({hit.id for hit in hits} & {id for id, _ in exact})
            right = [
                hit.score == pytest.approx(float(batch.vectors[batch.ids.index(hit.id)] @ vector), abs=1e-5)
                for hit in hits
            ]
            assert all(right) == (one is not raw)
    assert found[wide] == 200
    assert found[raw] <= found[store]
    for one in found:
        await one.close()


async def test_a_wider_search_finds_more(qdrant_server, tmp_path):
    """The collection is large enough for the server to walk its graph."""
    qdrant_server.clear()
    narrow, wide = (
        QdrantStore(
            qdrant_server.settings(
                tmp_path, qdrant=QdrantSettings(hnsw_m=4, hnsw_ef_construct=16, hnsw_ef=ef)
            )
        )
        for ef in (10, 1000)
    )
    await narrow.create(NAME, WIDE)
    for first in range(0, 6000, 500):
        await narrow.upsert(NAME, points_of(500, first=first, dim=WIDE.dim))
    await narrow.optimize(NAME)
    found = {narrow: 0, wide: 0}
    for vector in unit_vectors(20, WIDE.dim, seed=9):
        exact = {hit.id for hit in await narrow.query(NAME, vector, limit=10, exact=True)}
        for store in found:
            found[store] += len(exact & {hit.id for hit in await store.query(NAME, vector, limit=10)})
    assert found[narrow] + 20 < found[wide]
    for store in found:
        await store.close()


async def test_nothing_is_indexed_until_the_load_has_ended_whoever_goes_on_with_it(
    store, qdrant_server, tmp_path, monkeypatch
):
    monkeypatch.setattr("search_core.qdrant.INDEXING_THRESHOLD_KB", 100)
    await store.create(NAME, WIDE)
    for first in range(0, 1500, 500):
        await store.upsert(NAME, points_of(500, first=first, dim=WIDE.dim))
    assert await store.unindexed(NAME) == 1500
    again = QdrantStore(qdrant_server.settings(tmp_path))
    await again.create(NAME, WIDE)
    for first in range(1500, 3000, 500):
        await again.upsert(NAME, points_of(500, first=first, dim=WIDE.dim))
    made = qdrant_server.ask(f"/collections/{NAME}")
    assert (made["status"], made["indexed_vectors_count"]) == ("green", 0)
    assert made["config"]["optimizer_config"]["indexing_threshold"] == 0
    assert await again.unindexed(NAME) == 3000
    await again.optimize(NAME)
    assert await again.unindexed(NAME) < 100  # 100 KB are 25 vectors a segment
    assert (
        qdrant_server.ask(f"/collections/{NAME}")["config"]["optimizer_config"]["indexing_threshold"] == 100
    )
    found = 0
    for vector in unit_vectors(10, WIDE.dim, seed=9):
        exact = {hit.id for hit in await store.query(NAME, vector, limit=10, exact=True)}
        found += len(exact & {hit.id for hit in await store.query(NAME, vector, limit=10)})
    assert found >= 70  # random directions are the hardest there are
    await again.create(NAME, WIDE)
    assert await again.unindexed(NAME) < 100  # making it once more switches nothing off
    await again.close()


async def test_an_index_that_the_server_does_not_build_is_an_error(store, monkeypatch):
    monkeypatch.setattr("search_core.qdrant.INDEXING_THRESHOLD_KB", 0)  # the server takes this for "never"
    monkeypatch.setattr("search_core.qdrant.SETTLE_S", 1)
    await store.create(NAME, WIDE)
    await store.upsert(NAME, points_of(500, dim=WIDE.dim))
    with pytest.raises(StoreError, match="stopped indexing with 500 vectors outside HNSW"):
        await store.optimize(NAME)


async def test_an_index_that_does_not_get_on_is_an_error_and_can_be_finished_later(
    qdrant_server, tmp_path, monkeypatch
):
    monkeypatch.setattr("search_core.qdrant.INDEXING_THRESHOLD_KB", 100)
    qdrant_server.clear()
    store = QdrantStore(qdrant_server.settings(tmp_path, qdrant=QdrantSettings(stall_timeout_s=1)))
    await store.create(NAME, WIDE)
    await store.upsert(NAME, points_of(500, dim=WIDE.dim))

    def threads(count: int) -> None:
        change = {"optimizers_config": {"max_optimization_threads": count}}
        qdrant_server.ask(f"/collections/{NAME}", change, method="PATCH")

    threads(0)  # it has work and never begins
    with pytest.raises(StoreError, match=r"no part of its HNSW index for 1 s, 500 vectors are outside: look"):
        await store.optimize(NAME)
    assert len(await store.query(NAME, unit_vectors(1, WIDE.dim)[0], limit=1000)) == 500
    threads(1)
    await store.optimize(NAME)
    assert await store.unindexed(NAME) < 100
    await store.close()


async def test_an_error_of_the_server_is_one_line(store):
    await store.create(NAME, SPEC)
    from search_core.filters import AnyOf

    with pytest.raises(StoreError, match="refuses") as caught:
        await store.count(NAME, (AnyOf("a[", ("x",)),))
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, NotFoundError | StoreUnavailableError)
