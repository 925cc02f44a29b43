"""What only the embedded store has: one process at a time, crashes at any moment, and optimizing on a copy."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from search_core.edge import EdgeStore
from search_core.edge_files import EdgeFiles
from search_core.errors import NotFoundError, StoreError, StoreLockedError
from search_core.filters import AnyOf
from search_core.points import Batch
from search_core.settings import StoreSettings
from tests.fixtures.edge_process import BATCH, ENOUGH, NAME, WIDE
from tests.fixtures.processes import command, open_files, pids, until
from tests.fixtures.stores import SPEC, everything, points_of, unit_vectors

ROOT = Path(__file__).resolve().parents[2]


def opened(path: Path, lock_timeout_s: float = 0) -> EdgeStore:
    return EdgeStore(StoreSettings(path=path, lock_timeout_s=lock_timeout_s))


@contextmanager
def process(mode: str, store: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of `tests.fixtures.edge_process`, and its end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fixtures.edge_process", mode, str(store)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as it:
        try:
            yield it
        finally:
            it.kill()


def line(of: subprocess.Popen[str]) -> str:
    assert of.stdout is not None
    text = of.stdout.readline().strip()
    assert text, "the process ended"
    return text


def optimizer(shard: Path) -> int:
    """Waits until the optimizing process has opened the copy; gives its number."""

    def found() -> int:
        for pid in pids():
            if "search_core.edge_optimizer" in command(pid) and str(shard) in command(pid):
                return pid if any(file.startswith(f"{shard}/") for file in open_files(pid)) else 0
        return 0

    return until(found)


@pytest.fixture
async def kept(tmp_path) -> Path:
    """A store with a closed collection of 60 points."""
    store = opened(tmp_path / "store")
    await store.create(NAME, SPEC)
    await store.upsert(NAME, points_of(60))
    await store.close()
    return tmp_path / "store"


# --- one process at a time ---


async def test_a_second_process_is_refused_and_told_who_holds_the_store(kept):
    with process("hold", kept) as holder:
        assert line(holder) == "held"
        store = opened(kept)
        for call in (
            store.count(NAME),
            store.upsert(NAME, points_of(1)),
            store.drop(NAME),
            store.describe(NAME),
        ):
            with pytest.raises(StoreLockedError) as caught:
                await call
            assert f"process {holder.pid} (edge_process.py hold)" in str(caught.value)
            assert str(kept) in str(caught.value)
            assert "\n" not in str(caught.value)


async def test_what_another_process_holds_is_still_listed(kept):
    with process("hold", kept) as holder:
        line(holder)
        store = opened(kept)
        (collection,) = await store.collections()
        assert (collection.name, collection.count, collection.spec) == (NAME, 60, SPEC)
        assert await store.aliases() == {}


async def test_opening_waits_for_the_holder_to_let_go(kept):
    with process("hold", kept) as holder:
        line(holder)
        store = opened(kept, lock_timeout_s=120)
        waiting = asyncio.create_task(store.count(NAME))
        await asyncio.sleep(0)
        assert not waiting.done()
        assert holder.stdin is not None
        holder.stdin.close()
        assert await waiting == 60
        await store.close()


async def test_a_closed_store_is_free_at_once(kept):
    for _ in range(3):
        store = opened(kept)
        assert await store.count(NAME) == 60
        await store.close()


async def test_two_collections_may_be_held_by_two_processes(kept):
    with process("hold", kept) as holder:
        line(holder)
        store = opened(kept)
        await store.create("images__test__2", SPEC)
        await store.upsert("images__test__2", points_of(5))
        assert [collection.count for collection in await store.collections()] == [60, 5]
        await store.close()


# --- crashes ---


async def test_every_acknowledged_point_survives_kill_9(tmp_path):
    with process("write", tmp_path / "store") as writer:
        while int(line(writer)) < 7:
            pass
        writer.send_signal(signal.SIGKILL)
        assert writer.stdout is not None
        last = [7, *map(int, writer.stdout.read().split())][-1]  # what it could still say
    store = opened(tmp_path / "store", lock_timeout_s=60)
    acknowledged = points_of(BATCH * (last + 1))
    points = {point.id: point for point in await store.retrieve(NAME, acknowledged.ids, with_vectors=True)}
    assert set(points) == set(acknowledged.ids)
    for first in range(0, BATCH * (last + 1), BATCH):
        batch = points_of(BATCH, first=first)
        for id, vector, payload in zip(batch.ids, batch.vectors, batch.payloads, strict=True):
            assert points[id].payload == payload
            np.testing.assert_allclose(points[id].vector, vector, atol=1e-6)
    await store.upsert(NAME, points_of(5, first=10_000))
    assert await store.count(NAME, ()) >= len(acknowledged.ids) + 5
    await store.close()


async def test_kill_9_while_optimizing_leaves_the_collection_as_it_was(tmp_path):
    path = tmp_path / "store"
    shards = EdgeFiles(path)
    with process("optimize", path) as owner:
        assert line(owner) == "filled"
        child = optimizer(shards.shard(NAME, 2))
        os.kill(child, signal.SIGSTOP)
        owner.kill()
        owner.wait()
    until(
        lambda: "edge_optimizer" not in command(child)
    )  # it ends with its parent, though it cannot even run
    store = opened(path, lock_timeout_s=60)
    batch = points_of(ENOUGH, dim=WIDE.dim)
    assert {point.id for point in await everything(store, NAME)} == set(batch.ids)
    assert not shards.shard(NAME, 2).exists()
    (hit,) = await store.query(NAME, batch.vectors[1234], limit=1)
    assert hit.id == batch.ids[1234]
    await store.optimize(NAME)
    assert await store.unindexed(NAME) == 0
    assert await store.count(NAME) == ENOUGH
    await store.close()


@pytest.mark.parametrize("remains", ["empty folder", "half a shard", "a whole shard"])
async def test_a_creation_that_was_cut_off_is_begun_anew(tmp_path, remains):
    path = tmp_path / "store"
    files = EdgeFiles(path)
    if remains == "empty folder":
        files.shard(NAME, 1).parent.mkdir(parents=True)
    else:
        store = opened(path)
        await store.create(NAME, SPEC)
        await store.upsert(NAME, points_of(3))
        await store.close()
        (path / "collections" / NAME / "collection.json").unlink()
    if remains == "half a shard":
        for file in sorted(files.shard(NAME, 1).rglob("*"))[1::2]:
            file.unlink() if file.is_file() else None
    store = opened(path)
    assert await store.collections() == []
    with pytest.raises(NotFoundError):
        await store.count(NAME)
    await store.create(NAME, SPEC)
    assert await store.count(NAME) == 0
    await store.upsert(NAME, points_of(4))
    assert await store.facet(NAME, "folder") == {"cats": 2, "birds": 1, "dogs": 1}
    await store.close()


async def test_a_shard_that_is_damaged_is_named_in_one_line(kept):
    shard = EdgeFiles(kept).shard(NAME, 1)
    shutil.rmtree(shard)
    with pytest.raises(StoreError, match=f"collection {NAME} cannot be opened") as caught:
        await opened(kept).count(NAME)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, StoreLockedError)


async def test_a_dropped_collection_is_dropped_from_the_disk(kept):
    store = opened(kept)
    await store.drop(NAME)
    assert list((kept / "collections").iterdir()) == []
    await store.close()


# --- optimizing ---


@pytest.fixture
async def wide(tmp_path) -> EdgeStore:
    """A collection that is worth an index."""
    store = opened(tmp_path / "store")
    await store.create(NAME, WIDE)
    await store.upsert(NAME, points_of(ENOUGH, dim=WIDE.dim))
    yield store
    await store.close()


async def test_optimizing_builds_an_index_that_finds_nearly_everything(wide, tmp_path):
    assert await wide.unindexed(NAME) == ENOUGH
    await wide.optimize(NAME)
    assert await wide.unindexed(NAME) == 0
    found = 0
    for vector in unit_vectors(20, WIDE.dim, seed=9):
        exact = {hit.id for hit in await wide.query(NAME, vector, limit=10, exact=True)}
        found += len(exact & {hit.id for hit in await wide.query(NAME, vector, limit=10)})
    assert found >= 180
    files = EdgeFiles(tmp_path / "store")
    assert files.metadata(NAME)["generation"] == 2
    assert [path.name for path in files.shard(NAME, 1).parent.glob("shard-*")] == ["shard-0002"]
    await wide.close()
    assert await wide.count(NAME) == ENOUGH


@pytest.mark.parametrize("links", [True, False])
async def test_a_bulk_load_gets_its_payload_indexes_with_hnsw(tmp_path, monkeypatch, links):
    """Small collections with links for filters, large ones without: filtered searches find their points in both."""
    monkeypatch.setattr("search_core.edge_config.FULL_SCAN_KB", 100)
    monkeypatch.setattr("search_core.edge.MOST_LINKED", ENOUGH if links else ENOUGH - 1)
    store = opened(tmp_path / "store")
    await store.create(NAME, WIDE, bulk=True)
    await store.upsert(NAME, points_of(ENOUGH, dim=WIDE.dim))
    with pytest.raises(NotFoundError, match="no facet 'folder'"):
        await store.facet(NAME, "folder")
    await store.optimize(NAME)
    for _ in range(2):  # as it is, and opened again
        assert await store.facet(NAME, "folder") == {"cats": 1000, "dogs": 1000, "birds": 1000}
        where = (AnyOf("folder", ("dogs",)), AnyOf("format", ("png",)))
        found = 0
        for vector in unit_vectors(20, WIDE.dim, seed=9):
            hits = await store.query(NAME, vector, limit=10, where=where)
            assert {hit.payload["folder"] for hit in hits} == {"dogs"}
            exact = await store.query(NAME, vector, limit=10, where=where, exact=True)
            found += len({hit.id for hit in exact} & {hit.id for hit in hits})
        assert found >= 180
        async with store._shards.using(NAME) as held:
            assert held.linked == links
        await store.close()


async def test_a_load_does_not_keep_what_it_has_written_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("search_core.edge.FLUSH_POINTS", 50)
    store = opened(tmp_path / "store")
    await store.create(NAME, SPEC, bulk=True)
    for first in range(0, 120, 40):
        await store.upsert(NAME, points_of(40, first=first))
    async with store._shards.using(NAME) as held:
        assert held.unflushed == 40
    await store.close()
    assert await store.count(NAME) == 120
    await store.close()


async def test_writes_and_searches_that_come_meanwhile_are_served_and_kept(wide, tmp_path):
    batch = points_of(ENOUGH, dim=WIDE.dim)
    optimizing = asyncio.create_task(wide.optimize(NAME))
    child = await asyncio.to_thread(optimizer, EdgeFiles(tmp_path / "store").shard(NAME, 2))
    os.kill(child, signal.SIGSTOP)
    try:
        new = points_of(300, first=ENOUGH, dim=WIDE.dim)
        changed = Batch(
            batch.ids[:10], unit_vectors(10, WIDE.dim, seed=77), [{"uri": f"new {n}"} for n in range(10)]
        )
        await wide.upsert(NAME, new)
        await wide.upsert(NAME, changed)
        await wide.delete(NAME, [*batch.ids[10:30], *new.ids[:5]])
        await wide.upsert(NAME, Batch(batch.ids[10:11], batch.vectors[10:11], [{"uri": "back again"}]))
        await wide.annotate(NAME, {"noted": "meanwhile"})
        (hit,) = await wide.query(NAME, new.vectors[200], limit=1)
        assert hit.id == new.ids[200]
        with pytest.raises(StoreError, match="is being optimized already"):
            await wide.optimize(NAME)
        assert not optimizing.done()
    finally:
        os.kill(child, signal.SIGCONT)
    await optimizing
    for _ in range(2):  # as it is, and when it is opened anew
        points = {point.id: point for point in await everything(wide, NAME, with_vectors=True)}
        assert set(points) == (set(batch.ids) | set(new.ids)) - set(batch.ids[11:30]) - set(new.ids[:5])
        for id, vector, payload in zip(changed.ids, changed.vectors, changed.payloads, strict=True):
            assert points[id].payload == payload
            np.testing.assert_allclose(points[id].vector, vector, atol=1e-6)
        assert points[batch.ids[10]].payload == {"uri": "back again"}
        (hit,) = await wide.query(NAME, new.vectors[200], limit=1)
        assert hit.id == new.ids[200]
        assert (await wide.describe(NAME)).metadata["noted"] == "meanwhile"
        await wide.close()


@pytest.mark.parametrize("module", ["tests.fixtures.no_such_module", "json.tool"])
async def test_an_optimizer_that_fails_changes_nothing(kept, monkeypatch, module):
    monkeypatch.setattr("search_core.edge.OPTIMIZER", module)
    store = opened(kept)
    with pytest.raises(StoreError, match="the HNSW index could not be built: ") as caught:
        await store.optimize(NAME)
    assert "\n" not in str(caught.value)
    await store.upsert(NAME, points_of(1, first=60))
    assert await store.count(NAME) == 61
    monkeypatch.undo()
    await store.optimize(NAME)
    await store.close()
    assert await opened(kept).count(NAME) == 61


async def test_a_reader_that_comes_as_the_holder_changes_shards_takes_nothing_away(kept, monkeypatch):
    """It has read which shard is the current one, and opens it just as its holder has let go of it for a newer one."""
    holder = opened(kept)
    await holder.upsert(NAME, points_of(5, first=60))
    reader = opened(kept)
    shard_of = EdgeFiles.shard

    def late(files: EdgeFiles, name: str, generation: int) -> Path:
        if files is reader._files:
            monkeypatch.setattr(EdgeFiles, "shard", shard_of)
            with monkeypatch.context() as patch:
                patch.setattr(EdgeFiles, "sweep", lambda *_: None)  # the holder has not come to that yet
                optimizing = threading.Thread(target=asyncio.run, args=[holder.optimize(NAME)])
                optimizing.start()
                optimizing.join()
        return shard_of(files, name, generation)

    monkeypatch.setattr(EdgeFiles, "shard", late)
    with pytest.raises(StoreLockedError):
        await reader.count(NAME)
    assert await holder.count(NAME) == 65
    await holder.close()
    assert await reader.count(NAME) == 65
    await reader.close()


# --- letting go ---


async def test_shards_that_are_not_published_are_let_go_once_idle(kept):
    other = "images__test__2"
    store = opened(kept)
    await store.create(other, SPEC)
    await store.publish("images", NAME)
    await store.count(NAME)
    await store.upsert(other, points_of(5))
    assert await store.release(3600) == []
    assert await store.release(0) == [other]
    with process("hold", kept) as second, pytest.raises(AssertionError):
        line(second)  # the published one is held still
    await store.publish("images", other)
    assert await store.release(0) == [NAME]
    with process("hold", kept) as second:
        assert line(second) == "held"
        assert (await store.collections())[0].count == 60  # as noted when it was let go
    assert await store.count(other) == 5
    await store.publish("images", NAME)
    assert await store.release(0) == [other]
    (hit,) = await store.query(other, points_of(1).vectors[0], limit=1)  # opened again for who asks by name
    assert hit.id == points_of(1).ids[0]
    await store.close()


async def test_looking_at_all_collections_keeps_none_open(kept):
    store = opened(kept)
    await store.count(NAME)
    used = store._shards.find(NAME).last_used
    await store.collections()
    assert store._shards.find(NAME).last_used == used
    await store.close()


async def test_a_shard_is_not_let_go_under_a_call(wide, tmp_path):
    optimizing = asyncio.create_task(wide.optimize(NAME))
    child = await asyncio.to_thread(optimizer, EdgeFiles(tmp_path / "store").shard(NAME, 2))
    os.kill(child, signal.SIGSTOP)
    try:
        assert await wide.count(NAME) == ENOUGH
        assert await wide.release(0) == []
    finally:
        os.kill(child, signal.SIGCONT)
    await optimizing
    assert await wide.release(0) == [NAME]
    assert await wide.unindexed(NAME) == 0
