"""Index runs from one end to the other, by the command line: real pictures, real Ray, embedded store, fake model.

The tests share one store and run in the order of this file: looking at it first, changing it last.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from batch_index.job import IndexRequest, run_index
from batch_index.report import IndexReport
from search_core.edge import EdgeStore
from search_core.encoder import load_encoder
from search_core.errors import ModelError, ModelMismatchError, SourceError, StoreLockedError
from search_core.model import resolve_model
from search_core.pictures import file_uri
from search_core.points import Point
from search_core.preprocess import pixels_of
from search_core.settings import ImageSettings, ModelSettings, Settings, StoreSettings
from search_core.store import Store
from tests.fixtures.commands import Commands
from tests.fixtures.pictures import encoded, photo, plain, png_claiming, put, quarters, unique
from tests.fixtures.stores import everything

T = TypeVar("T")
SPEC = resolve_model("fake")
PLAIN = 24
BROKEN = {
    "broken/empty.png": (b"", "empty"),
    "broken/text.jpg": (b"no picture", "unreadable"),
    "broken/cut.png": (encoded(photo(200, 150), "PNG")[:20_000], "truncated"),
    "broken/bomb.png": (png_claiming(60_000, 60_000), "too_many_pixels"),
}


def good_files() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = quarters(320, 200).transpose(Image.Transpose.ROTATE_90)
    return {
        **{f"plain/{number:02}.png": unique(number) for number in range(PLAIN)},
        "large.jpg": encoded(photo(1800, 1200), "JPEG", quality=92),
        "turned.jpg": encoded(stored, "JPEG", exif=exif),
        "clear.webp": encoded(Image.new("RGBA", (30, 40), (255, 0, 0, 128)), "WEBP"),
        "red.gif": plain("red", format="GIF"),
        "copies/one.png": unique(3),
        "copies/two.png": unique(3),
        os.fsdecode(b"odd/caf\xe9 #1?.png"): unique(500),
    }


class World:
    """The folder of pictures, its store and the commands on it."""

    def __init__(self, folder: Path) -> None:
        self.pictures = folder / "pictures"
        self.store_path = folder / "store"
        self.run = Commands(folder, "--store", str(self.store_path))
        for name, data in good_files().items():
            put(self.pictures, name, data)
        for name, (data, _) in BROKEN.items():
            put(self.pictures, name, data)
        lines: list[dict[str, Any]] = [
            {"image": "large.jpg", "captions": ["a large photo", "waves"], "licence": "CC0", "rating": 4.5},
            {"image": "plain/01.png", "captions": ["half a pair \ud83d", "line\u2028separator"]},
        ]
        (self.pictures / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
        put(self.pictures, "turned.txt", b"turned round\n")

    def ask(self, what: Callable[[Store], Awaitable[T]]) -> T:
        """Asks the store, past every command."""

        async def asking() -> T:
            store = EdgeStore(StoreSettings(path=self.store_path))
            try:
                return await what(store)
            finally:
                await store.close()

        return asyncio.run(asking())

    def published(self) -> str:
        return self.ask(lambda store: store.aliases())["images"]

    def points(self) -> dict[str, Point]:
        """The published points by file."""
        name = self.published()
        found = self.ask(lambda store: everything(store, name, with_vectors=True))
        return {point.payload["uri"]: point for point in found}

    def uris(self, *names: str) -> set[str]:
        return {file_uri(self.pictures / name) for name in names}

    def quarantine(self) -> dict[str, str]:
        """Reasons by file, of the published collection."""
        status = self.run.light("status")
        (row,) = [row for row in status["collections"] if row["name"] == status["published"]]
        return {failure["uri"]: failure["reason"] for failure in row["quarantine"]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module")
def first(world: World) -> dict[str, Any]:
    """The report of the first run."""
    report = world.run.json("index", world.pictures)
    world.run.assert_nothing_left()
    return report


def assert_whole(report: dict[str, Any]) -> None:
    parts = ("added", "updated", "moved", "unchanged", "quarantined")
    assert report["seen"] == sum(report[part] for part in parts), report


# --- looking ---


def test_a_dry_run_on_nothing_makes_nothing(tmp_path):
    put(tmp_path, "pictures/a.png", unique(1))
    commands = Commands(tmp_path, "--store", str(tmp_path / "store"))
    report = commands.light("index", "pictures", "--dry-run")
    assert (report["added"], report["seen"], report["dry_run"]) == (1, 1, True)
    assert not (tmp_path / "store").exists()


def test_the_first_run_adds_every_good_picture(world, first):
    good = len(good_files())
    assert first["added"] == good
    assert first["quarantined"] == len(BROKEN)
    assert first["embedded"] == good - 2  # three of them are the same
    assert first["model"] == "fake"
    assert first["collection"].startswith(f"images__{SPEC.fingerprint}__")
    assert first["seconds"] > 0
    assert_whole(first)


def test_every_good_picture_is_there_once_with_the_vector_a_query_would_have(world, first):
    points = world.points()
    assert set(points) == world.uris(*good_files())
    encoder = load_encoder(SPEC, ModelSettings(name="fake"))
    for name, data in good_files().items():
        wanted = encoder.encode_pixels(pixels_of(data, SPEC.preprocess, ImageSettings())[np.newaxis])[0]
        (uri,) = world.uris(name)
        np.testing.assert_allclose(points[uri].vector, wanted, atol=1e-5, err_msg=name)


def test_payloads_have_captions_and_columns(world, first):
    points = world.points()
    large, plain_one, turned, odd = (
        points[next(iter(world.uris(name)))].payload
        for name in ("large.jpg", "plain/01.png", "turned.jpg", os.fsdecode(b"odd/caf\xe9 #1?.png"))
    )
    assert (large["caption"], large["captions"]) == ("a large photo", ["a large photo", "waves"])
    assert (large["licence"], large["rating"], large["width"], large["height"]) == ("CC0", 4.5, 1800, 1200)
    assert plain_one["captions"] == ["half a pair ?", "line\u2028separator"]
    assert (turned["caption"], turned["orientation"], turned["width"]) == ("turned round", "landscape", 320)
    assert (plain_one["folder"], plain_one["file_name"], plain_one["format"]) == ("plain", "01.png", "png")
    assert odd["folder"] == "odd"


def test_broken_files_are_quarantined_with_their_reasons(world, first):
    reasons = {next(iter(world.uris(name))): reason for name, (_, reason) in BROKEN.items()}
    assert world.quarantine() == reasons


def test_the_collection_is_published_and_says_what_the_run_did(world, first):
    (collection,) = world.ask(lambda store: store.collections())
    assert (collection.name, collection.state) == (first["collection"], "ready")
    assert world.published() == first["collection"]
    assert collection.spec == SPEC
    assert collection.count == first["added"]
    last_run = collection.metadata["last_run"]
    assert (last_run["added"], last_run["quarantined"]) == (first["added"], first["quarantined"])
    assert last_run["seconds"] > 0
    assert collection.metadata["quarantined"] == len(BROKEN)
    means = collection.metadata["means"]
    vectors = np.stack([point.vector for point in world.points().values()])
    np.testing.assert_allclose(means["image"], vectors.mean(axis=0), atol=1e-5)
    assert len(means["text"]) == SPEC.dim


def test_a_second_run_has_nothing_to_do_and_does_without_ray(world, first):
    before = world.points()
    world.ask(lambda store: store.annotate(first["collection"], {"checked": "never", "quarantined": 0}))
    report = world.run.light("index", world.pictures)
    noted = world.ask(lambda store: store.describe(first["collection"])).metadata
    assert (noted["checked"] != "never", noted["quarantined"]) == (True, len(BROKEN))
    assert (report["embedded"], report["added"], report["updated"], report["moved"], report["deleted"]) == (
        0,
    ) * 5
    assert (report["unchanged"], report["quarantined"]) == (first["added"], len(BROKEN))
    assert report["collection"] == first["collection"]
    assert_whole(report)
    after = world.points()
    assert {uri: point.payload for uri, point in after.items()} == {
        uri: point.payload for uri, point in before.items()
    }


def test_however_the_source_is_written_it_is_the_same_source(world, first):
    for source in ("pictures", "./pictures/../pictures", str(world.pictures) + "/"):
        report = world.run.light("index", source)
        assert (report["unchanged"], report["added"]) == (first["added"], 0)


def test_a_dry_run_foresees_and_changes_nothing(world, first):
    new = put(world.pictures, "new.png", unique(600))
    copy = put(world.pictures, "plain/copy.png", unique(5))
    gone = world.pictures / "red.gif"
    kept = gone.read_bytes()
    status = gone.stat()
    gone.unlink()
    before = world.points()
    report = world.run.light("index", world.pictures, "--dry-run", "--delete-missing", "--retry-quarantined")
    assert report["dry_run"] is True
    assert (report["added"], report["deleted"], report["unchanged"]) == (
        2 + len(BROKEN),
        1,
        first["added"] - 1,
    )
    out, _ = world.run.run("index", world.pictures, "--dry-run")
    assert "nothing was changed" in out
    assert list(world.points()) == list(before)
    assert len(world.quarantine()) == len(BROKEN)
    assert (
        world.ask(lambda store: store.describe(first["collection"])).metadata["last_run"]["added"]
        == first["added"]
    )
    gone.write_bytes(kept)
    os.utime(gone, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.unlink()
    copy.unlink()


def test_another_model_is_refused_with_the_mend(world, first):
    line = world.run.refused("index", world.pictures, "--model", "fake/16")
    assert first["collection"] in line
    assert "--model fake, or --rebuild" in line
    assert world.published() == first["collection"]


def test_programs_get_a_report_or_an_error_of_its_kind(world, first, tmp_path):
    def job(*sources: Path, model: str = "fake", **options: Any) -> IndexReport:
        settings = Settings(store=StoreSettings(path=world.store_path), model=ModelSettings(name=model))
        return asyncio.run(run_index(IndexRequest([str(source) for source in sources], **options), settings))

    report = job(world.pictures)
    assert (report.unchanged, report.embedded, report.collection) == (first["added"], 0, first["collection"])
    assert job(world.pictures, dry_run=True, rebuild=True, model="fake/16").added == first["seen"]
    with pytest.raises(ModelMismatchError):
        job(world.pictures, model="fake/16")
    with pytest.raises(SourceError):
        job(tmp_path / "nowhere")
    with pytest.raises(ModelError):
        job(world.pictures, model="nonsense")
    with FileLock(world.store_path / "index-images.lock"), pytest.raises(StoreLockedError):
        job(world.pictures)
    assert len(world.ask(lambda store: store.collections())) == 1


def test_what_cannot_be_done_is_one_line_and_an_exit_code(world, first, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jsonl").write_text("no json")
    cases: list[tuple[list[str | Path], int, str]] = [
        ([tmp_path / "nowhere"], 1, f"source {tmp_path}/nowhere does not exist"),
        ([tmp_path / "empty"], 1, "no pictures in"),
        ([world.pictures, tmp_path / "nowhere"], 1, "does not exist"),
        ([""], 1, "a source is empty: name a folder, a file or a glob"),
        ([world.pictures, " "], 1, "a source is empty"),
        (["ftp://host/x"], 1, "only local files, s3:// and gs:// can be indexed"),
        (
            [world.pictures, "--model", "nonsense"],
            1,
            "unknown model 'nonsense': take builtin, ARCH/PRETRAINED",
        ),
        ([world.pictures, "--model", "local-dir:/nowhere"], 1, "/nowhere must hold"),
        ([world.pictures, "--captions", tmp_path / "none.jsonl"], 2, "does not exist"),
        ([world.pictures, "--captions", tmp_path / "bad.jsonl"], 2, "line 1: needs"),
        ([world.pictures, "--qdrant-url", "http://127.0.0.1:1"], 2, "--store or --qdrant-url, not both"),
        ([world.pictures, "--collection", "no/name"], 2, "setting store.collection"),
        ([], 2, "Missing argument"),
        ([world.pictures, "--frobnicate"], 2, "No such option"),
    ]
    for words, code, says in cases:
        assert says in world.run.refused("index", *words, code=code), words
    with FileLock(world.store_path / "index-images.lock"):
        assert "another index run is writing 'images'" in world.run.refused("index", world.pictures)
    assert world.published() == first["collection"]
    world.run.assert_nothing_left()


def test_a_wrong_setting_is_one_line(world, first):
    for variable, says in (
        ("IMAGE_SEARCH_INDEX__BATCH_SIZE", "index.batch_size"),
        ("IMAGE_SEARCH_INDX__CPUS", "no group"),
    ):
        commands = Commands(world.run.folder, **{variable: "-1"})
        assert says in commands.refused("index", world.pictures, code=2)


# --- changing ---


def test_a_run_brings_the_collection_up_to_date(world, first):
    """Everything that can happen to a folder between two runs, at once."""
    before = world.points()
    pictures = world.pictures
    put(pictures, "plain/00.png", unique(700))  # other contents
    (pictures / "plain/02.png").rename(pictures / "moved.png")
    (pictures / "plain/04.png").unlink()
    put(pictures, "plain/06.png", unique(8))  # two files exchange their contents
    put(pictures, "plain/08.png", unique(6))
    put(pictures, "plain/10.png", unique(710))  # one takes over what another held, which has something new
    put(pictures, "heir.png", unique(10))
    put(pictures, "new.png", unique(720))
    put(pictures, "plain/12.txt", b"described now\n")
    os.utime(pictures / "plain/14.png", ns=(1, 10**18))
    put(pictures, "broken/text.jpg", plain("blue", format="JPEG"))  # mended
    (pictures / "broken/empty.png").unlink()
    report = world.run.json("index", pictures, "--delete-missing")
    world.run.assert_nothing_left()
    assert_whole(report)
    assert report["collection"] == first["collection"]
    assert {
        key: report[key] for key in ("added", "updated", "moved", "deleted", "quarantined", "embedded")
    } == {
        "added": 3,  # heir, new, mended
        "updated": 6,  # 00, 06, 08, 10, 12, 14
        "moved": 1,
        "deleted": 1,
        "quarantined": 2,  # cut and bomb
        "embedded": 4,  # 00, 10, new, mended: no bytes are embedded twice
    }
    after = world.points()
    names = set(good_files()) - {"plain/02.png", "plain/04.png"}
    assert set(after) == world.uris(*names, "moved.png", "heir.png", "new.png", "broken/text.jpg")
    encoder = load_encoder(SPEC, ModelSettings(name="fake"))
    for uri, point in after.items():
        data = next(
            path for path in pictures.rglob("*") if path.is_file() and file_uri(path) == uri
        ).read_bytes()
        wanted = encoder.encode_pixels(pixels_of(data, SPEC.preprocess, ImageSettings())[np.newaxis])[0]
        np.testing.assert_allclose(point.vector, wanted, atol=1e-5, err_msg=uri)
    (described,) = world.uris("plain/12.png")
    assert after[described].payload["caption"] == "described now"
    untouched = world.uris("plain/01.png", "large.jpg", "copies/one.png")
    assert all(after[uri].payload == before[uri].payload for uri in untouched)
    assert set(world.quarantine()) == world.uris("broken/cut.png", "broken/bomb.png")
    assert world.run.light("index", pictures)["unchanged"] == len(after)
    (pictures / "new.png").unlink()
    report = world.run.light("index", pictures, "--delete-missing")  # with nothing to index, without Ray
    assert (report["deleted"], report["unchanged"]) == (1, len(after) - 1)
    assert set(world.points()) == set(after) - world.uris("new.png")


def test_a_rebuild_takes_the_place_of_the_old_collection_and_can_be_rolled_back(world, first):
    """With another model and the broken files tried again; readers of the old one lose nothing."""
    before = world.points()
    put(world.pictures, "broken/cut.png", unique(800))
    report = world.run.json("index", world.pictures, "--rebuild", "--model", "fake/16")
    world.run.assert_nothing_left()
    assert_whole(report)
    assert report["model"] == "fake/16"
    assert report["collection"] != first["collection"]
    assert report["added"] == len(before) + 1
    assert report["embedded"] == report["added"] - 2
    assert world.published() == report["collection"]
    assert all(point.vector.shape == (16,) for point in world.points().values())
    rows = world.run.light("collections", "list")
    assert [(row["name"], row["published_as"], row["state"]) for row in rows] == [
        (first["collection"], None, "ready"),
        (report["collection"], "images", "ready"),
    ]
    assert "is published" in world.run.refused("collections", "drop", report["collection"], code=2)
    out, errors = world.run.run("collections", "rollback")
    assert (out.strip(), errors) == (f"published {first['collection']}", "")
    assert set(world.points()) == set(before)
    assert "no earlier version" in world.run.refused("collections", "rollback")
    world.run.run("collections", "publish", report["collection"])
    assert world.published() == report["collection"]
    world.run.run("collections", "drop", first["collection"])
    assert [row["name"] for row in world.run.light("collections", "list")] == [report["collection"]]
    assert "no collection" in world.run.refused("collections", "publish", first["collection"])
