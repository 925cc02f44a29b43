"""Index runs that are stopped or killed in the middle: nothing is left running, and the same command goes on.

The middle is no moment of the clock: the last picture keeps the pipeline waiting, while those of the first block
go into the store.
"""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from batch_index.pipeline import ROWS_PER_BLOCK
from search_core.pictures import file_uri
from search_core.settings import StoreSettings
from search_core.store import Collection, Store
from search_core.stores import open_store
from tests.fixtures.commands import Commands
from tests.fixtures.pictures import plain, put, unique
from tests.fixtures.processes import until
from tests.fixtures.qdrant_server import QdrantServer
from tests.fixtures.stall import Stall
from tests.fixtures.stores import everything

pytestmark = pytest.mark.timeout(900)  # six index runs, one after the other
FILES = ROWS_PER_BLOCK + 44
LAST = "last.bmp"
STOPPED = "image-search: stopped; run the same command again to go on"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "pictures"
    for number in range(FILES - 2):
        put(folder, f"{number:04}.png", unique(number))
    put(folder, "before.bmp", plain((1, 2, 3), format="BMP"))
    put(folder, LAST, plain((3, 2, 1), format="BMP"))  # as large: the plan looks into it
    return folder


def interrupted(
    commands: Commands, pictures: Path, number: signal.Signals, in_store: Any, least: int
) -> None:
    """Runs an index until it waits for the last picture and `least` are in the store, and ends it."""
    with Stall(pictures / LAST) as stall:
        process = commands.start("index", pictures, "--json")
        until(lambda: process.poll() is not None or stall.planned())
        until(lambda: process.poll() is not None or (stall.reached() and in_store() >= least))
        assert process.poll() is None, process.communicate()
        process.send_signal(number)
        out, errors = process.communicate(timeout=120)
        assert out == ""
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert (process.returncode, errors.strip()) == (
                1,
                STOPPED,
            )  # click ends the line of a terminal's ^C
        commands.assert_nothing_left()


def look(settings: StoreSettings) -> tuple[Collection, dict[str, str], set[str]]:
    """The only collection, the aliases and the URIs in it."""

    async def looking() -> tuple[Collection, dict[str, str], set[str]]:
        store: Store = open_store(settings)
        try:
            (collection,) = await store.collections()
            points = await everything(store, collection.name)
            uris = [point.payload["uri"] for point in points]
            assert len(set(uris)) == len(uris) == collection.count
            return collection, await store.aliases(), set(uris)
        finally:
            await store.close()

    return asyncio.run(looking())


def finish(commands: Commands, pictures: Path, settings: StoreSettings, done: set[str], name: str) -> None:
    """The same command once more embeds what is missing, and no more."""
    report = commands.json("index", pictures)
    commands.assert_nothing_left()
    assert report["collection"] == name
    assert (report["seen"], report["unchanged"], report["added"]) == (FILES, len(done), FILES - len(done))
    assert report["embedded"] == FILES - len(done)
    collection, aliases, uris = look(settings)
    assert (collection.state, aliases) == ("ready", {"images": name})
    assert uris == {file_uri(path) for path in pictures.iterdir()}
    assert commands.light("index", pictures)["unchanged"] == FILES


def test_the_embedded_store_goes_on_after_kill_9_sigint_and_sigterm(pictures, tmp_path):
    commands = Commands(tmp_path, "--store", str(tmp_path / "store"))
    settings = StoreSettings(path=tmp_path / "store", lock_timeout_s=60)

    def in_log() -> int:
        """How many pictures the write-ahead log has."""
        logs = (tmp_path / "store").glob("collections/*/shard-*/wal/open-*")
        return len(
            {name for log in logs for name in re.findall(rb"/pictures/(\d{4}\.png)", log.read_bytes())}
        )

    interrupted(commands, pictures, signal.SIGKILL, in_log, ROWS_PER_BLOCK)
    collection, aliases, done = look(settings)
    assert (collection.state, aliases) == ("building", {})
    assert len(done) == ROWS_PER_BLOCK
    for number in (signal.SIGINT, signal.SIGTERM):
        interrupted(commands, pictures, number, in_log, 0)
        again, aliases, now = look(settings)
        assert (again.name, again.state, aliases) == (collection.name, "building", {})
        assert now >= done
    finish(commands, pictures, settings, done, collection.name)


def test_a_qdrant_server_goes_on_after_kill_9_and_shows_nothing_half_done(
    pictures, tmp_path, qdrant_server: QdrantServer
):
    qdrant_server.clear()
    commands = Commands(
        tmp_path,
        "--qdrant-url",
        qdrant_server.url,
        IMAGE_SEARCH_STORE__QDRANT_GRPC_PORT=str(qdrant_server.grpc_port),
        IMAGE_SEARCH_INDEX__BATCH_SIZE="32",
    )
    settings = qdrant_server.settings(tmp_path / ".image-search")

    def in_server() -> int:
        found = qdrant_server.ask("/collections")["collections"]
        return sum(
            qdrant_server.ask(f"/collections/{one['name']}/points/count", {"exact": True})["count"]
            for one in found
        )

    interrupted(commands, pictures, signal.SIGKILL, in_server, ROWS_PER_BLOCK)
    collection, aliases, done = look(settings)
    assert (collection.state, aliases) == ("building", {})
    assert len(done) == ROWS_PER_BLOCK
    assert "no collection 'images' yet" in commands.refused("search", "red")
    finish(commands, pictures, settings, done, collection.name)
    schema = qdrant_server.ask(f"/collections/{collection.name}")["payload_schema"]
    assert {name: field["data_type"] for name, field in schema.items()} == {
        **dict.fromkeys(("folder", "format", "orientation", "uri", "file_name", "content_hash"), "keyword"),
        **dict.fromkeys(("width", "height", "bytes"), "integer"),
    }
