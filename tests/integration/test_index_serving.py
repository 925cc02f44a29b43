"""Index runs while a server holds the store: they join its Ray, and its readers see every change at once.

The server is this process: a Ray, the owner actor and the file that announces both.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from search_core.model import resolve_model
from search_core.owner import OWNER_NAME, start_owner, stop_owner
from search_core.pictures import file_uri
from search_core.server_file import RunningServer, process_start
from search_core.settings import StoreSettings
from search_core.store import Store, published
from tests.fixtures.commands import Commands
from tests.fixtures.pictures import put, unique
from tests.fixtures.ports import free_port
from tests.fixtures.stores import everything

SPEC = resolve_model("fake")


@pytest.fixture
def owner(local_ray: str, tmp_path: Path) -> Iterator[Store]:
    """The store in `tmp_path/store`, held and announced."""
    owned = start_owner(StoreSettings(path=tmp_path / "store"))
    started = process_start(os.getpid())
    assert started is not None
    RunningServer(os.getpid(), started, "http://127.0.0.1:1", local_ray).write(
        StoreSettings(path=tmp_path / "store")
    )
    yield owned
    RunningServer.remove(StoreSettings(path=tmp_path / "store"))
    stop_owner(owned)


def owners() -> set[str]:
    """Actors that hold a store; Ray Data has named ones of its own."""
    from ray.util import list_named_actors

    names = [actor["name"] for actor in list_named_actors(all_namespaces=True)]
    return {name for name in names if name.startswith(OWNER_NAME)}


def uris(store: Store) -> tuple[str, set[str]]:
    """The published collection and what is in it, as a reader of the server sees it."""

    async def reading() -> tuple[str, set[str]]:
        collection = await published(store, "images")
        points = await everything(store, collection.name)
        assert collection.count == len(points)
        return collection.name, {point.payload["uri"] for point in points}

    return asyncio.run(reading())


@pytest.mark.timeout(900)
def test_runs_go_through_the_server_and_its_readers_see_them(owner, tmp_path):
    pictures = tmp_path / "work" / "pictures"
    commands = Commands(tmp_path / "work", "--store", "../store")  # relative to us, not to the server
    before = owners()
    for number in range(12):
        put(pictures, f"{number:02}.png", unique(number))
    put(pictures, "broken.png", b"no picture")

    first = commands.json("index", "pictures")
    assert (first["added"], first["quarantined"]) == (12, 1)
    name, found = uris(owner)
    assert name == first["collection"]
    assert found == {file_uri(path) for path in pictures.glob("[0-9]*")}

    (pictures / "00.png").rename(pictures / "moved.png")
    (pictures / "01.png").unlink()
    put(pictures, "new.png", unique(100))
    second = commands.json("index", "pictures", "--delete-missing")
    assert {
        key: second[key] for key in ("added", "moved", "deleted", "unchanged", "quarantined", "embedded")
    } == {
        "added": 1,
        "moved": 1,
        "deleted": 1,
        "unchanged": 10,
        "quarantined": 1,
        "embedded": 1,
    }
    assert uris(owner) == (
        name,
        {file_uri(path) for path in pictures.glob("*.png") if path.name != "broken.png"},
    )
    assert commands.json("index", "pictures", "--dry-run")["unchanged"] == 12
    status = commands.json("status")
    assert (status["published"], status["server"]["pid"]) == (name, os.getpid())

    tried = commands.json("status")["collections"][0]["quarantine"][0]["time"]
    assert commands.json("index", "pictures")["quarantined"] == 1
    assert commands.json("status")["collections"][0]["quarantine"][0]["time"] == tried
    again = commands.json("index", "pictures", "--retry-quarantined")
    assert (again["quarantined"], again["embedded"], again["unchanged"]) == (1, 0, 12)
    assert commands.json("status")["collections"][0]["quarantine"][0]["time"] > tried

    rebuilt = commands.json("index", "pictures", "--rebuild", "--model", "fake/16")
    assert (rebuilt["added"], rebuilt["embedded"]) == (12, 12)
    assert uris(owner)[0] == rebuilt["collection"] != name
    out, _ = commands.run("collections", "rollback")
    assert out == f"published {name}\n"
    assert uris(owner)[0] == name

    (pictures / "hopeless").mkdir()
    put(pictures, "hopeless/a.png", b"no picture")
    put(pictures, "hopeless/b.png", b"nor this")
    _, errors = commands.run("index", "pictures/hopeless", "--collection", "other", code=1)
    assert errors.splitlines() == [
        "image-search: none of the 2 files could be indexed: `image-search status` says why, file by file"
    ]
    assert asyncio.run(owner.aliases()) == {"images": name}
    commands.assert_nothing_left()
    assert owners() == before == {OWNER_NAME}


def test_a_server_that_does_not_answer_is_one_line(tmp_path):
    put(tmp_path, "pictures/a.png", unique(1))
    started = process_start(os.getpid())
    assert started is not None
    address = f"127.0.0.1:{free_port()}"
    RunningServer(os.getpid(), started, "http://127.0.0.1:1", address).write(
        StoreSettings(path=tmp_path / "store")
    )
    commands = Commands(tmp_path, "--store", "store")
    _, errors = commands.run("index", "pictures", code=1)
    (line,) = errors.splitlines()
    assert f"the server's Ray at {address} does not answer" in line


def test_a_server_that_has_ended_is_ignored(tmp_path):
    put(tmp_path, "pictures/a.png", unique(1))
    RunningServer(os.getpid(), "1", "http://127.0.0.1:1", "127.0.0.1:1").write(
        StoreSettings(path=tmp_path / "store")
    )
    commands = Commands(tmp_path, "--store", "store")
    assert commands.light("index", "pictures", "--dry-run")["added"] == 1
    assert commands.light("status")["server"] is None
