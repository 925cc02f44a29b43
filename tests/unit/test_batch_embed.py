"""The second stage, called as Ray calls it: a row is given back once the store has it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from batch_index import rows
from batch_index.embed import EmbedAndWrite
from search_core.edge import EdgeStore
from search_core.encoder import load_encoder
from search_core.errors import StoreLockedError
from search_core.model import resolve_model
from search_core.points import point_id
from search_core.settings import ModelSettings, StoreSettings
from tests.fixtures.stores import payload_of, unit_vectors

SPEC = resolve_model("fake")
MODEL = ModelSettings(name="fake")
NAME = "images__test__1"
PIXELS = np.random.default_rng(1).integers(0, 256, (4, *SPEC.preprocess.size, 3), dtype=np.uint8)


class Notes:
    """A coordinator that notes which points are about to be replaced, and how many pictures a stage had."""

    def __init__(self) -> None:
        self.retired: list[str] = []
        self.counts: dict[str, int] = {}
        self.restarts = 0

    async def start_again(self) -> None:
        self.restarts += 1

    async def retire(self, ids: Sequence[str]) -> None:
        self.retired += ids

    def count(self, stage: str, pictures: int, seconds: float) -> None:
        self.counts[stage] = pictures


@pytest.fixture
def store(tmp_path):
    store = EdgeStore(StoreSettings(path=tmp_path / "store", lock_timeout_s=0))
    asyncio.run(store.create(NAME, SPEC))
    yield store
    asyncio.run(store.close())


def table(*given: dict) -> pa.Table:
    """Rows that are embedded, but for what is said."""
    records = []
    for number, changes in enumerate(given):
        payload = payload_of(number)
        record = dict.fromkeys(rows.PREPARED.names, "") | {
            "shard": 0,
            "row": number + 1,
            "id": point_id(payload["uri"]),
            "uri": payload["uri"],
            "action": "added",
            "outcome": rows.EMBED,
            "payload": json.dumps(payload),
            "pixels": PIXELS[number].tobytes(),
            "vector": b"",
        }
        records.append(record | changes)
    return pa.Table.from_pylist(records, schema=rows.PREPARED)


def through(
    store: EdgeStore,
    batch: pa.Table,
    notes: Notes | None = None,
    texts: Sequence[str] = (),
    *,
    restarted: bool = False,
) -> pa.Table:
    coordinator = notes or Notes()
    options = {"to_embed": True, "texts": texts, "restarted": restarted}
    stage = EmbedAndWrite(coordinator, SPEC, MODEL, lambda: store, NAME, **options)  # type: ignore[arg-type]
    return asyncio.run(stage(batch))


def stored(store: EdgeStore) -> dict:
    points, _ = asyncio.run(store.scroll(NAME, limit=100, with_vectors=True))
    return {point.payload["uri"]: point for point in points}


def test_every_row_is_given_back_and_only_good_ones_are_written(store):
    broken = {"outcome": rows.BROKEN, "reason": "missing", "error": "no file", "payload": "", "pixels": b""}
    done = through(
        store, table({}, broken, {"outcome": rows.DEFERRED, "pixels": b""}, {"outcome": rows.DONE})
    )
    assert done.schema == rows.ACKNOWLEDGED
    assert done["row"].to_pylist() == [1, 2, 3, 4]
    assert done["outcome"].to_pylist() == [rows.EMBED, rows.BROKEN, rows.DEFERRED, rows.DONE]
    assert done["reason"].to_pylist() == ["", "missing", "", ""]
    assert list(stored(store)) == [payload_of(0)["uri"]]


def test_vectors_are_the_encoders(store):
    through(store, table({}, {}, {}, {}))
    wanted = load_encoder(SPEC, MODEL).encode_pixels(PIXELS)
    points = stored(store)
    for number, vector in enumerate(wanted):
        np.testing.assert_allclose(points[payload_of(number)["uri"]].vector, vector, atol=1e-6)


def test_a_restarted_one_embeds_only_what_is_not_written_with_these_contents(store):
    through(store, table({}, {}))
    (was,) = unit_vectors(1, SPEC.dim)
    through(store, table({"outcome": rows.REUSE, "pixels": b"", "vector": was.tobytes()}))
    changed = json.dumps(payload_of(1, content_hash="f" * 64))
    notes = Notes()
    done = through(store, table({}, {"payload": changed, "action": "updated"}, {}), notes, restarted=True)
    assert done["outcome"].to_pylist() == [rows.EMBED] * 3
    assert notes.counts["embed"] == 2
    assert notes.restarts == 1
    points = stored(store)
    np.testing.assert_allclose(points[payload_of(0)["uri"]].vector, was, atol=1e-6)
    assert points[payload_of(1)["uri"]].payload["content_hash"] == "f" * 64


def test_a_known_vector_is_written_as_it_is(store):
    (vector,) = unit_vectors(1, SPEC.dim)
    through(store, table({"outcome": rows.REUSE, "pixels": b"", "vector": vector.tobytes()}))
    np.testing.assert_allclose(stored(store)[payload_of(0)["uri"]].vector, vector, atol=1e-6)


def test_a_moved_point_leaves_its_old_place_and_a_replaced_one_is_retired_first(store):
    through(store, table({}, {}))
    notes = Notes()
    moved = {"action": "moved", "origin": point_id(payload_of(0)["uri"]), "id": point_id("file:///new.png"),
             "payload": json.dumps({**payload_of(0), "uri": "file:///new.png"})}  # fmt: skip
    through(store, table(moved, {"action": "updated"}), notes)
    assert sorted(stored(store)) == ["file:///new.png", payload_of(1)["uri"]]
    assert notes.retired == [point_id(payload_of(1)["uri"])]


def test_writing_twice_changes_nothing(store):
    through(store, table({}, {}))
    through(store, table({}, {}))
    assert len(stored(store)) == 2


def test_texts_are_averaged_where_the_plans_first_row_is(store):
    texts = ["red", "a blue car"]
    done = through(store, table({}, {}), texts=texts)
    means = [np.frombuffer(value, np.float32) for value in done["text_mean"].to_pylist() if value]
    (mean,) = means
    np.testing.assert_allclose(mean, load_encoder(SPEC, MODEL).encode_texts(texts).mean(axis=0), atol=1e-6)
    later = through(store, table({"row": 7}), texts=texts)
    assert later["text_mean"].to_pylist() == [b""]


def test_rows_that_the_store_refuses_are_not_given_back(store, tmp_path):
    asyncio.run(store.count(NAME))
    other = EdgeStore(StoreSettings(path=tmp_path / "store", lock_timeout_s=0))
    with pytest.raises(StoreLockedError):
        through(other, table({}))


def test_a_batch_of_nothing_but_broken_rows_writes_nothing(store):
    broken = {"outcome": rows.BROKEN, "reason": "missing", "error": "no file", "payload": "", "pixels": b""}
    assert through(store, table(broken, broken))["outcome"].to_pylist() == [rows.BROKEN] * 2
    assert stored(store) == {}


def test_the_store_is_opened_once(store):
    opened = []

    def open_store() -> EdgeStore:
        opened.append(store)
        return store

    stage = EmbedAndWrite(Notes(), SPEC, MODEL, open_store, NAME, to_embed=True, texts=())  # type: ignore[arg-type]

    async def both() -> None:
        await asyncio.gather(
            stage(table({})), stage(table({}, {}))
        )  # one is written while the other is embedded

    asyncio.run(both())
    assert len(opened) == 1
    assert len(stored(store)) == 2


def test_a_changed_picture_that_is_broken_now_is_not_found_any_more_but_one_that_was_not_had_is(store):
    through(store, table({}, {}, {}))
    broken = {"action": "updated", "outcome": rows.BROKEN, "payload": "", "pixels": b""}
    through(
        store,
        table(
            {**broken, "reason": "truncated"},
            {**broken, "reason": "unreachable"},
            {**broken, "reason": "truncated", "action": "added"},
        ),
    )
    assert list(stored(store)) == [payload_of(1)["uri"], payload_of(2)["uri"]]


def test_a_table_that_cannot_be_read_forgets_none_of_its_pictures(store):
    inside = {**payload_of(0), "uri": "s3://bucket/data.parquet#0.0"}
    one = {"id": point_id(inside["uri"]), "uri": inside["uri"]}
    through(store, table({**one, "payload": json.dumps(inside)}))
    broken = {"action": "updated", "outcome": rows.BROKEN, "payload": "", "pixels": b""}
    through(store, table({**broken, **one, "reason": "unreadable"}))
    assert list(stored(store)) == [inside["uri"]]
