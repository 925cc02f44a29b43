"""What only a Qdrant server has: it can be away, be shared with others, and be left half way."""

from __future__ import annotations

import asyncio
import time

import pytest

from search_core.errors import NotFoundError, StoreError, StoreUnavailableError
from search_core.model import resolve_model
from search_core.points import INTEGER_FIELDS, KEYWORD_FIELDS
from search_core.qdrant import QdrantStore
from search_core.settings import StoreSettings
from search_core.store import new_metadata
from tests.fixtures.processes import until
from tests.fixtures.qdrant_server import QdrantServer, free_ports
from tests.fixtures.stores import SPEC, everything, points_of, unit_vectors

NAME = "images__test__20260101T000000000"
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


@pytest.mark.parametrize("url", ["127.0.0.1:6333", "localhost", "ftp://127.0.0.1", "grpc://127.0.0.1:6334"])
def test_a_url_that_is_none_says_the_mend(url, tmp_path):
    with pytest.raises(StoreError, match="give one such as http://"):
        QdrantStore(StoreSettings(path=tmp_path, qdrant_url=url))


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


async def test_optimizing_waits_until_the_server_has_its_index(store, monkeypatch):
    monkeypatch.setattr("search_core.qdrant.INDEXING_THRESHOLD_KB", 100)
    await store.create(NAME, WIDE)
    for first in range(0, 3000, 500):
        await store.upsert(NAME, points_of(500, first=first, dim=WIDE.dim))
    await store.optimize(NAME)
    assert await store.unindexed(NAME) < 100  # 100 KB are 25 vectors a segment
    found = 0
    for vector in unit_vectors(10, WIDE.dim, seed=9):
        exact = {hit.id for hit in await store.query(NAME, vector, limit=10, exact=True)}
        found += len(exact & {hit.id for hit in await store.query(NAME, vector, limit=10)})
    assert found >= 70  # random directions are the hardest there are


async def test_an_error_of_the_server_is_one_line(store):
    await store.create(NAME, SPEC)
    from search_core.filters import AnyOf

    with pytest.raises(StoreError, match="refuses") as caught:
        await store.count(NAME, (AnyOf("a[", ("x",)),))
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, NotFoundError | StoreUnavailableError)
