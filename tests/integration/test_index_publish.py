"""What a new collection must show before its readers see it, and what is kept of those that it replaces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.commands import Commands
from tests.fixtures.pictures import COLOURS, plain, put
from tests.fixtures.qdrant_server import QdrantServer

pytestmark = pytest.mark.timeout(900)  # six index runs
PICTURES = [*COLOURS, "dark red", "dark blue"]


class World:
    """A folder of coloured pictures, a store of either kind, and the checks that are asked for."""

    def __init__(self, folder: Path, *where: str, **settings: str) -> None:
        self.pictures = folder / "pictures"
        self.canaries = folder / "canaries.jsonl"
        self.run = Commands(
            folder,
            *where,
            IMAGE_SEARCH_PUBLISH__CANARIES=str(self.canaries),
            IMAGE_SEARCH_PUBLISH__KEEP="1",
            **settings,
        )
        for name, colour in COLOURS.items():
            put(self.pictures, f"{name}.png", plain(colour))
        put(self.pictures, "dark red.png", plain((150, 10, 10)))
        put(self.pictures, "dark blue.png", plain((10, 10, 150)))

    def ask(self, text: str, image: str, within: int = 2) -> None:
        """Makes this the only canary."""
        self.canaries.write_text(json.dumps({"text": text, "images": [image], "within": within}))

    def rebuild(self) -> dict[str, Any]:
        report: dict[str, Any] = self.run.json("index", self.pictures, "--rebuild")
        return report

    def rebuild_refused(self) -> str:
        """The one line of a run whose collection is not published."""
        out, errors = self.run.run("index", self.pictures, "--rebuild", code=1)
        assert out == ""
        (line,) = errors.splitlines()
        return line

    def collections(self) -> dict[str, str]:
        """State, or the alias, of each collection, oldest first."""
        return {
            row["name"]: row["published_as"] or row["state"] for row in self.run.json("collections", "list")
        }


@pytest.fixture(params=["embedded", pytest.param("server", marks=pytest.mark.long)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "embedded":
        yield World(tmp_path, "--store", str(tmp_path / "store"))
        return
    server: QdrantServer = request.getfixturevalue("qdrant_server")
    server.clear()
    yield World(
        tmp_path,
        "--qdrant-url",
        server.url,
        IMAGE_SEARCH_STORE__QDRANT_GRPC_PORT=str(server.grpc_port),
        IMAGE_SEARCH_STORE__PATH=str(tmp_path / "state"),
    )


def test_a_collection_is_published_once_it_passes_and_the_last_ones_are_kept(world: World) -> None:
    world.ask("red", "red.png")
    first = world.run.json("index", world.pictures)["collection"]

    # a canary that is not found keeps the new collection from its readers, as does every later run until it is mended
    world.ask("red", "blue.png")
    line = world.rebuild_refused()
    ((_, _), (second, _)) = world.collections().items()
    assert world.collections() == {first: "images", second: "building"}
    assert line == (
        f"image-search: collection {second} is not published, canary: 'red', none of its 1 images is found among the "
        f"first 2: mend that and run the same command again, or take it as it is with "
        f"`image-search collections publish {second} --force`"
    )
    assert "was refused, canary: 'red'" in world.run.refused("collections", "publish", second)
    world.ask("blue", "blue.png")
    report = world.rebuild()
    assert (report["collection"], report["embedded"], report["unchanged"]) == (second, 0, len(PICTURES))
    assert world.collections() == {first: "ready", second: "images"}

    # one that has lost pictures is refused, taken all the same by force, and rolled back
    for name in PICTURES[:4]:
        (world.pictures / f"{name}.png").unlink()
    assert (
        f"size: {len(PICTURES) - 4} pictures, the one it replaces has {len(PICTURES)}"
        in world.rebuild_refused()
    )
    third = list(world.collections())[-1]
    world.run.run("collections", "publish", third, "--force")
    assert world.collections() == {first: "ready", second: "ready", third: "images"}
    world.run.run("collections", "rollback")
    assert world.collections() == {first: "ready", second: "images", third: "ready"}

    # the one that a rollback goes to is kept, and no other
    for name in PICTURES[:4]:
        put(world.pictures, f"{name}.png", plain(COLOURS[name]))
    fourth = world.rebuild()["collection"]
    assert world.collections() == {second: "ready", fourth: "images"}
    world.run.run("collections", "rollback")
    assert world.collections() == {second: "images", fourth: "ready"}


def test_recall_on_a_file_of_captions_can_be_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path, "--store", str(tmp_path / "store"))
    world.ask("red", "red.png")
    captions = tmp_path / "captions.jsonl"
    world.run.environment["IMAGE_SEARCH_PUBLISH__EVAL_FILE"] = str(captions)
    for name in PICTURES:
        put(
            world.pictures, f"more {name}.png", plain(COLOURS.get(name, (77, 77, 77)))
        )  # more than ten in all
    named = sorted(path.name for path in world.pictures.iterdir())
    lines = [json.dumps({"image": name, "captions": ["white"]}) for name in named]
    captions.write_text(
        "\n".join(lines)
    )  # more than twice as many as are looked at: most are not among the first ten
    _, errors = world.run.run("index", world.pictures, code=1)
    assert "eval: text-to-image recall at 10 is" in errors
    assert "0.5 is asked for" in errors
    assert list(world.collections().values()) == ["building"]
    captions.write_text(json.dumps({"image": "white.png", "captions": ["white"]}))
    assert world.run.json("index", world.pictures)["embedded"] == 0
    assert list(world.collections().values()) == ["images"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "needs"),
        ('{"text": "red"}', "needs"),
        ('{"text": " ", "images": ["a"]}', "needs"),
        ('{"text": "a", "images": []}', "needs"),
        (json.dumps({"text": "a" * 2001, "images": ["a"]}), "the text is longer than 2000 characters"),
        ('{"text": "a", "images": ["a"], "within": 1001}', "within is more than 1000"),
    ],
)
def test_a_file_of_canaries_that_is_wrong_is_refused_before_anything_is_done(
    tmp_path: Path, line: str, says: str
) -> None:
    world = World(tmp_path, "--store", str(tmp_path / "store"))
    world.canaries.write_text(line)
    said = world.run.refused("index", world.pictures, code=2)
    assert said.startswith(f"{world.canaries}, line 1: {says}")
    assert not (tmp_path / "store").exists()
