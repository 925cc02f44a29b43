"""Pictures in an S3 bucket, from the command line to their being found: moto's server, real Ray, the fake model.

One store, and the tests run in the order of this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.commands import Commands
from tests.fixtures.pictures import plain
from tests.fixtures.ports import free_port
from tests.fixtures.s3_server import CREDENTIALS, REGION, Bucket, S3Server

pytestmark = pytest.mark.timeout(600)
GOOD = {
    "cats/red one.png": plain("red"),
    "cats/deep/blue.webp": plain("blue", format="WEBP"),
    "cats/deep/er/#1 yellow?.jpg": plain("yellow", format="JPEG"),
}
ELSEWHERE = {"catsuit.png": plain("white"), "dogs/black.png": plain("black"), "cats/notes.md": b"none"}
CHANGES = ("added", "updated", "moved", "unchanged", "deleted", "quarantined", "embedded")


class World:
    """A bucket with a broken picture among good ones, and commands on one store."""

    def __init__(self, folder: Path, server: S3Server) -> None:
        self.folder = folder
        self.bucket = Bucket(server)
        self.source = self.bucket.uri("cats")
        for key, data in {**GOOD, **ELSEWHERE}.items():
            self.bucket.put(key, data)
        self.broken = self.bucket.put("cats/broken.png", GOOD["cats/red one.png"][:50])
        self.run = self.commands(server.endpoint)

    def commands(self, endpoint: str) -> Commands:
        """Those that ask an S3 server."""
        return Commands(
            self.folder,
            "--store",
            str(self.folder / "store"),
            **CREDENTIALS,
            IMAGE_SEARCH_SOURCE__S3_ENDPOINT=endpoint,
            IMAGE_SEARCH_SOURCE__S3_REGION=REGION,
            IMAGE_SEARCH_SOURCE__RETRIES="0",
        )

    def found(self, words: str) -> list[str]:
        """Addresses of everything, the likest first."""
        return [hit["uri"] for hit in self.run.light("search", words, "-k", "100")]

    def all_good(self) -> set[str]:
        return set(map(self.bucket.uri, GOOD))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("s3"), s3_server)
    yield world
    world.bucket.close()
    world.run.assert_nothing_left()


def changes(report: dict[str, Any]) -> dict[str, int]:
    return {name: report[name] for name in CHANGES if report[name]}


def test_what_is_below_the_prefix_is_indexed_and_what_is_broken_is_quarantined(world: World) -> None:
    report = world.run.json("index", world.source)
    assert report["seen"] == len(GOOD) + 1
    assert changes(report) == {"added": len(GOOD), "embedded": len(GOOD), "quarantined": 1}
    (row,) = world.run.light("status")["collections"]
    assert [(failure["uri"], failure["reason"]) for failure in row["quarantine"]] == [
        (world.broken, "truncated")
    ]


def test_searches_find_them(world: World) -> None:
    assert set(world.found("red")) == world.all_good()
    for colour, key in zip(("red", "blue", "yellow"), GOOD, strict=True):
        assert world.found(colour)[0] == world.bucket.uri(key)


def test_a_second_run_finds_everything_as_it_was(world: World) -> None:
    assert changes(world.run.light("index", world.source)) == {"unchanged": len(GOOD), "quarantined": 1}


def test_an_object_that_was_replaced_is_updated(world: World) -> None:
    uri = world.bucket.put("cats/red one.png", plain("green", (50, 50)))
    report = world.run.json("index", world.source)
    assert changes(report) == {"updated": 1, "embedded": 1, "unchanged": len(GOOD) - 1, "quarantined": 1}
    assert world.found("green")[0] == uri


def test_a_server_that_is_not_there_is_one_line_and_deletes_nothing(world: World) -> None:
    elsewhere = world.commands(f"http://127.0.0.1:{free_port()}")
    line = elsewhere.refused("index", world.source, "--delete-missing")
    assert line.startswith(f"source {world.source} cannot be read: ")
    assert set(world.found("red")) == world.all_good()


def test_an_object_that_was_removed_is_deleted_where_that_is_asked_for(world: World) -> None:
    gone = "cats/deep/blue.webp"
    world.bucket.delete(gone)
    left = {"unchanged": len(GOOD) - 1, "quarantined": 1}
    assert changes(world.run.json("index", world.source)) == left
    assert set(world.found("blue")) == world.all_good()
    report = world.run.json("index", world.source, "--delete-missing")
    assert changes(report) == {**left, "deleted": 1}
    assert set(world.found("blue")) == world.all_good() - {world.bucket.uri(gone)}
