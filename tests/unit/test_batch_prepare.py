"""The first stage, called as Ray calls it: good pictures get pixels and payload, broken ones travel along with a reason."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batch_index import rows
from batch_index.coordinator import Care
from batch_index.plan_file import Task
from batch_index.prepare import Prepare
from batch_index.sources import open_source
from search_core.model import resolve_model
from search_core.payload import rfc3339
from search_core.pictures import file_uri
from search_core.points import point_id
from search_core.preprocess import pixels_of
from search_core.settings import ImageSettings, SourceSettings
from tests.fixtures.one_shard import OneShard
from tests.fixtures.pictures import encoded, photo, plain, png_claiming, put, unique
from tests.fixtures.shelf import SPEC as SHELF_SPEC
from tests.fixtures.shelf import Shelf

SPEC = resolve_model("fake")
LIMITS = ImageSettings(max_image_mb=1)
MOMENT = "2023-11-14T22:13:20.123457+00:00"


def task(path: Path, modified: str = MOMENT, **description: Any) -> Task:
    told = {"captions": [], "columns": {}, **description}
    return Task(file_uri(path), "v", 0, modified, json.dumps(told), "", "added")


def prepared(*tasks: Task, batch_size: int = 64) -> list[pa.Table]:
    stage = Prepare(OneShard(list(tasks)), SPEC.preprocess, SourceSettings(), LIMITS, batch_size)  # type: ignore[arg-type]
    return list(stage(0))


def test_a_good_picture_has_pixels_and_payload(tmp_path):
    data = encoded(photo(64, 48), "JPEG")
    path = put(tmp_path, "cats/tom.jpg", data)
    (table,) = prepared(task(path, captions=["a cat"], columns={"licence": "CC0"}))
    assert table.schema == rows.PREPARED
    (row,) = table.to_pylist()
    assert (row["id"], row["shard"], row["row"]) == (point_id(file_uri(path)), 0, 1)
    assert (row["outcome"], row["action"], row["reason"], row["error"]) == (rows.EMBED, "added", "", "")
    wanted = pixels_of(data, SPEC.preprocess, LIMITS)
    np.testing.assert_array_equal(np.frombuffer(row["pixels"], np.uint8).reshape(wanted.shape), wanted)
    assert json.loads(row["payload"]) == {
        "uri": file_uri(path),
        "folder": "cats",
        "file_name": "tom.jpg",
        "format": "jpeg",
        "width": 64,
        "height": 48,
        "orientation": "landscape",
        "bytes": len(data),
        "modified": "2023-11-14T22:13:20.123457Z",
        "content_hash": hashlib.sha256(data).hexdigest(),
        "source_version": "v",
        "caption": "a cat",
        "captions": ["a cat"],
        "licence": "CC0",
    }


def test_stage_and_listing_agree_on_the_moment_of_a_change(tmp_path):
    """Else a second run would find every picture changed."""
    path = put(tmp_path, "a.png", plain("red"))
    for nanoseconds in (1, 999, 1_700_000_000_999_999_999, 1_234_567_890_123_456_789):
        os.utime(path, ns=(0, nanoseconds))
        (item,) = open_source(str(path), SourceSettings()).items()
        assert item.modified is not None
        (table,) = prepared(task(path, modified=item.modified.isoformat()))
        assert json.loads(table["payload"][0].as_py())["modified"] == rfc3339(item.modified)


def test_broken_pictures_keep_their_place_and_say_why(tmp_path):
    whole = encoded(photo(200, 150), "PNG")
    files = {
        "good.png": plain("red"),
        "empty.png": b"",
        "text.jpg": b"no picture",
        "cut.png": whole[: len(whole) // 2],
        "bomb.png": png_claiming(60_000, 60_000),
        "large.png": b"\0" * 1_000_001,
        "good.jpg": plain("blue", format="JPEG"),
    }
    paths = [put(tmp_path, name, data) for name, data in files.items()]
    (table,) = prepared(*map(task, paths), task(tmp_path / "missing.png"), task(tmp_path))
    assert table["reason"].to_pylist() == [
        "", "empty", "unreadable", "truncated", "too_many_pixels", "too_many_bytes", "", "missing", "missing",
    ]  # fmt: skip
    good = [True, False, False, False, False, False, True, False, False]
    assert [error == "" for error in table["error"].to_pylist()] == good
    assert [outcome == rows.EMBED for outcome in table["outcome"].to_pylist()] == good
    assert [bool(pixels) for pixels in table["pixels"].to_pylist()] == good
    assert not any("\n" in error for error in table["error"].to_pylist())


@pytest.mark.parametrize(("size", "sizes"), [(2, [2, 2, 1]), (5, [5]), (64, [5])])
def test_a_shard_comes_in_batches(tmp_path, size, sizes):
    paths = [put(tmp_path, f"{number}.png", plain("red")) for number in range(5)]
    tables = prepared(*map(task, paths), batch_size=size)
    assert [table.num_rows for table in tables] == sizes
    assert [row for table in tables for row in table["row"].to_pylist()] == [1, 2, 3, 4, 5]


@pytest.fixture
def shelf(tmp_path):
    shelf = Shelf(tmp_path)
    yield shelf
    shelf.close()


def test_only_what_is_new_is_decoded(shelf):
    """What the collection has comes with its vector, what another picture brings is put off."""
    put(shelf.root, "a.png", unique(1))
    shelf.index()
    for name, number in (("b.png", 1), ("c.png", 2), ("d.png", 2)):
        put(shelf.root, name, unique(number))
    plan = shelf.plan()
    plan.file.cut()
    stage = Prepare(shelf.coordinator(plan), SHELF_SPEC.preprocess, SourceSettings(), LIMITS, 64)  # type: ignore[arg-type]
    (table,) = stage(0)
    assert table["outcome"].to_pylist() == [rows.REUSE, rows.EMBED, rows.DEFERRED]
    assert [bool(pixels) for pixels in table["pixels"].to_pylist()] == [False, True, False]
    assert [bool(payload) for payload in table["payload"].to_pylist()] == [True, True, False]
    before = shelf.points()["pictures/a.png"]
    np.testing.assert_array_equal(np.frombuffer(table["vector"][0].as_py(), np.float32), before.vector)
    payload = json.loads(table["payload"][0].as_py())
    differing = {name for name, value in payload.items() if value != before.payload[name]}
    assert differing == {"uri", "file_name", "modified", "source_version"}


def test_a_repeated_shard_reads_only_what_is_not_acknowledged(shelf):
    paths = [put(shelf.root, f"{number}.png", unique(number)) for number in range(3)]
    plan = shelf.plan()
    plan.file.cut()
    coordinator = shelf.coordinator(plan, fresh=True)
    stage = Prepare(coordinator, SHELF_SPEC.preprocess, SourceSettings(), LIMITS, 64)  # type: ignore[arg-type]
    (first,) = stage(0)
    assert first["outcome"].to_pylist() == [rows.EMBED] * 3
    coordinator.acknowledge(0, [1, 3], [])
    paths[0].unlink()
    (again,) = stage(0)
    assert again["outcome"].to_pylist() == [rows.DONE, rows.EMBED, rows.DONE]
    assert again.slice(1, 1).equals(first.slice(1, 1))
    assert [bool(pixels) for pixels in again["pixels"].to_pylist()] == [False, True, False]


def test_a_picture_that_ended_its_process_is_broken_and_others_are_decoded_alone(tmp_path):
    paths = [put(tmp_path, f"{number}.png", unique(number)) for number in range(4)]
    coordinator = OneShard(list(map(task, paths)), Care(alone=True, crashed=frozenset({2})))
    stage = Prepare(coordinator, SPEC.preprocess, SourceSettings(), LIMITS, 64)  # type: ignore[arg-type]
    (table,) = stage(0)
    assert table["reason"].to_pylist() == ["", "crashed", "", ""]
    assert table["outcome"].to_pylist() == [rows.EMBED, rows.BROKEN, rows.EMBED, rows.EMBED]
    hashes = [json.loads(payload)["content_hash"] for payload in table["payload"].to_pylist() if payload]
    assert hashes == [hashlib.sha256(unique(number)).hexdigest() for number in (0, 2, 3)]
    assert coordinator.begun == [1, 2, 3, 4, None]
