"""The pipeline's stages, called as Ray Data calls them: good rows pass, broken ones travel along with a reason."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from batch_index.stages import Decode, Embed, Write

from batch_index.sources import open_source
from search_core.edge import EdgeStore
from search_core.encoder import load_encoder
from search_core.errors import StoreLockedError
from search_core.model import resolve_model
from search_core.pictures import file_uri
from search_core.points import point_id
from search_core.preprocess import pixels_of
from search_core.settings import ImageSettings, ModelSettings, SourceSettings, StoreSettings
from tests.fixtures.pictures import encoded, photo, plain, png_claiming, put

SPEC = resolve_model("fake")
MODEL = ModelSettings(name="fake")
LIMITS = ImageSettings(max_image_mb=1)


def batch_of(*paths: Path, **description) -> dict[str, np.ndarray]:
    known = {"modified": "2023-11-14T22:13:20.123457+00:00", "captions": [], "columns": {}, **description}
    return {
        "uri": np.array([file_uri(path) for path in paths], dtype=object),
        "version": np.array([f"v{number}" for number in range(len(paths))], dtype=object),
        "description": np.array([json.dumps(known)] * len(paths), dtype=object),
    }


def through(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return Embed(SPEC, MODEL)(Decode(SPEC.preprocess, LIMITS)(batch))


def test_a_good_row_carries_pixels_and_payload(tmp_path):
    data = encoded(photo(64, 48), "JPEG")
    path = put(tmp_path, "cats/tom.jpg", data)
    rows = Decode(SPEC.preprocess, LIMITS)(batch_of(path, captions=["a cat"], columns={"licence": "CC0"}))
    assert rows["id"].tolist() == [point_id(file_uri(path))]
    assert rows["reason"].tolist() == rows["error"].tolist() == [""]
    assert rows["pixels"].shape == (1, 32, 32, 3)
    assert rows["pixels"].dtype == np.uint8
    assert json.loads(rows["payload"][0]) == {
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
        "source_version": "v0",
        "caption": "a cat",
        "captions": ["a cat"],
        "licence": "CC0",
    }


def test_stage_and_listing_agree_on_the_moment_of_a_change(tmp_path):
    """Else a second run would find every picture changed."""
    path = put(tmp_path, "a.png", plain("red"))
    for nanoseconds in (1, 999, 1_700_000_000_999_999_999, 1_234_567_890_123_456_789):
        os.utime(path, ns=(0, nanoseconds))
        (file,) = open_source(str(path), SourceSettings()).items()
        rows = Decode(SPEC.preprocess, LIMITS)(batch_of(path, modified=file.modified.isoformat()))
        from search_core.payload import rfc3339

        assert json.loads(rows["payload"][0])["modified"] == rfc3339(file.modified)


def test_broken_rows_keep_their_place_and_say_why(tmp_path):
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
    rows = through(batch_of(*paths, tmp_path / "missing.png", tmp_path))
    assert rows["reason"].tolist() == [
        "", "empty", "unreadable", "truncated", "too_many_pixels", "too_many_bytes", "", "missing", "missing",
    ]  # fmt: skip
    good = np.array([True, False, False, False, False, False, True, False, False])
    assert (rows["error"] == "").tolist() == good.tolist()
    assert all("\n" not in error for error in rows["error"])
    assert (np.linalg.norm(rows["vector"], axis=1) > 0.99).tolist() == good.tolist()
    assert "pixels" not in rows
    assert len({len(column) for column in rows.values()}) == 1


def test_a_batch_of_nothing_but_broken_rows_is_no_trouble(tmp_path):
    rows = through(batch_of(tmp_path / "a.png", tmp_path / "b.png"))
    assert rows["vector"].shape == (2, SPEC.dim)
    assert not rows["vector"].any()


def test_pictures_that_are_not_there_are_missing(tmp_path):
    batch = batch_of(tmp_path / "x.png")
    assert Decode(SPEC.preprocess, LIMITS)(batch)["reason"].tolist() == ["missing"]


def test_batch_and_query_give_the_same_vectors(tmp_path):
    """The same bytes through the pipeline's stages and through the path of a query."""
    files = [
        encoded(photo(640, 480, 1), "JPEG"),
        encoded(photo(1800, 1300, 2), "JPEG"),
        encoded(photo(99, 201, 3), "WEBP"),
        plain("green"),
    ]
    paths = [put(tmp_path, f"{number}.jpg", data) for number, data in enumerate(files)]
    rows = through(batch_of(*paths))
    encoder = load_encoder(SPEC, MODEL)
    for row, data in zip(rows["vector"], files, strict=True):
        np.testing.assert_allclose(
            row, encoder.encode_pixels(pixels_of(data, SPEC.preprocess, LIMITS)[None])[0], atol=1e-6
        )


def test_read_only_arrays_as_ray_gives_them_are_taken(tmp_path):
    rows = Decode(SPEC.preprocess, LIMITS)(
        batch_of(put(tmp_path, "a.png", plain("red")), tmp_path / "none.png")
    )
    for column in rows.values():
        column.flags.writeable = False
    assert Embed(SPEC, MODEL)(rows)["vector"].shape == (2, SPEC.dim)


@pytest.fixture
def collection(tmp_path):
    """Settings of an embedded store with an empty collection `c`."""
    import asyncio

    settings = StoreSettings(path=tmp_path / "store", lock_timeout_s=0)

    async def make() -> None:
        store = EdgeStore(settings)
        await store.create("c", SPEC)
        await store.close()

    asyncio.run(make())
    return settings


def test_rows_are_given_back_once_the_store_has_them(tmp_path, collection):
    paths = [put(tmp_path, f"{n}.png", plain(colour)) for n, colour in enumerate(("red", "green", "blue"))]
    stores = []

    def opened() -> EdgeStore:
        stores.append(EdgeStore(collection))
        return stores[-1]

    writer = Write(opened, "c")
    rows = through(batch_of(*paths, tmp_path / "missing.png"))
    done = writer(rows)
    assert set(done) == {"uri", "version", "reason", "error"}
    assert done["uri"].tolist() == rows["uri"].tolist()
    assert done["reason"].tolist() == ["", "", "", "missing"]
    assert writer._runner.run(stores[0].count("c")) == 3
    writer(rows)
    assert writer._runner.run(stores[0].count("c")) == 3
    found = writer._runner.run(stores[0].query("c", rows["vector"][1], limit=1))
    assert found[0].id == rows["id"][1]
    writer._runner.run(stores[0].close())
    writer._runner.close()
    assert len(stores) == 1


def test_rows_that_the_store_refuses_are_not_given_back(tmp_path, collection):
    import asyncio

    holder = EdgeStore(collection)
    asyncio.run(holder.count("c"))
    writer = Write(lambda: EdgeStore(collection), "c")
    with pytest.raises(StoreLockedError):
        writer(through(batch_of(put(tmp_path, "a.png", plain("red")))))
    writer._runner.close()
    asyncio.run(holder.close())
