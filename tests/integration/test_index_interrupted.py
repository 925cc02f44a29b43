"""Index runs that are stopped or killed in the middle: nothing is left running, and the same command goes on.

The middle is no moment of the clock: the server of the last picture keeps the pipeline waiting, while those of the
first shard go into the store.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batch_index.plan_file import SHARD_ROWS
from search_core.pictures import file_uri
from search_core.settings import StoreSettings
from search_core.store import Collection, Store
from search_core.stores import open_store
from tests.fixtures.commands import Commands
from tests.fixtures.pictures import plain, put, unique
from tests.fixtures.processes import until
from tests.fixtures.qdrant_server import QdrantServer
from tests.fixtures.stores import everything
from tests.fixtures.web_server import Answer, WebServer, web_server

pytestmark = pytest.mark.timeout(900)  # six index runs, one after the other
FILES = SHARD_ROWS + 43
PICTURES = FILES + 1
LAST = "last.bmp"
STOPPED = "image-search: stopped; run the same command again to go on"
PATIENT = {"IMAGE_SEARCH_SOURCE__ALLOW_PRIVATE_URLS": "true", "IMAGE_SEARCH_SOURCE__TIMEOUT_S": "600"}


@dataclass
class Corpus:
    """A folder of files and, listed after them, the address of a last picture that may keep its reader waiting."""

    folder: Path
    urls: Path
    server: WebServer

    @property
    def last(self) -> str:
        return self.urls.read_text().strip()

    @property
    def sources(self) -> tuple[Path, Path]:
        return self.folder, self.urls

    def uris(self) -> set[str]:
        return {self.last, *(file_uri(path) for path in self.folder.iterdir())}

    def hold(self, times: int) -> None:
        """The last picture is not given whole to so many readers, then to all."""
        picture = plain((3, 2, 1), format="BMP")
        self.server.url(LAST, *[Answer(picture, stalls=True)] * times, Answer(picture))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    root = tmp_path_factory.mktemp("many")
    for number in range(FILES):
        put(root / "pictures", f"{number:04}.png", unique(number))
    with web_server() as server:
        (root / "urls.txt").write_text(server.url(LAST))
        yield Corpus(root / "pictures", root / "urls.txt", server)


def interrupted(
    commands: Commands, corpus: Corpus, number: signal.Signals, in_store: Any, least: int
) -> None:
    """Runs an index until it waits for the last picture and `least` are in the store, and ends it."""
    asked = corpus.server.times(LAST)
    process = commands.start("index", *corpus.sources, "--json")
    until(lambda: process.poll() is not None or (corpus.server.times(LAST) > asked and in_store() >= least))
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    out, errors = process.communicate(timeout=120)
    assert out == ""
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert (process.returncode, errors.strip()) == (1, STOPPED)  # click ends the line of a terminal's ^C
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


def finish(commands: Commands, corpus: Corpus, settings: StoreSettings, done: set[str], name: str) -> None:
    """The same command once more embeds what is missing, and no more."""
    report = commands.json("index", *corpus.sources)
    commands.assert_nothing_left()
    assert report["collection"] == name
    counts = report["seen"], report["unchanged"], report["added"]
    assert counts == (PICTURES, len(done), PICTURES - len(done))
    assert report["embedded"] == PICTURES - len(done)
    collection, aliases, uris = look(settings)
    assert (collection.state, aliases) == ("ready", {"images": name})
    assert uris == corpus.uris()
    assert commands.light("index", *corpus.sources)["unchanged"] == PICTURES


def test_the_embedded_store_goes_on_after_kill_9_sigint_and_sigterm(corpus, tmp_path):
    commands = Commands(tmp_path, "--store", str(tmp_path / "store"), **PATIENT)
    corpus.hold(3)
    settings = StoreSettings(path=tmp_path / "store", lock_timeout_s=60)

    def in_log() -> int:
        """How many pictures the write-ahead log has."""
        logs = (tmp_path / "store").glob("collections/*/shard-*/wal/open-*")
        return len(
            {name for log in logs for name in re.findall(rb"/pictures/(\d{4}\.png)", log.read_bytes())}
        )

    interrupted(commands, corpus, signal.SIGKILL, in_log, SHARD_ROWS)
    collection, aliases, done = look(settings)
    assert (collection.state, aliases) == ("building", {})
    assert SHARD_ROWS <= len(done) < PICTURES
    for number in (signal.SIGINT, signal.SIGTERM):
        interrupted(commands, corpus, number, in_log, 0)
        again, aliases, now = look(settings)
        assert (again.name, again.state, aliases) == (collection.name, "building", {})
        assert now >= done
    finish(commands, corpus, settings, done, collection.name)


def test_a_qdrant_server_goes_on_after_kill_9_and_shows_nothing_half_done(
    corpus, tmp_path, qdrant_server: QdrantServer
):
    qdrant_server.clear()
    corpus.hold(1)
    commands = Commands(
        tmp_path,
        "--qdrant-url",
        qdrant_server.url,
        IMAGE_SEARCH_STORE__QDRANT_GRPC_PORT=str(qdrant_server.grpc_port),
        IMAGE_SEARCH_INDEX__BATCH_SIZE="32",
        **PATIENT,
    )
    settings = qdrant_server.settings(tmp_path / ".image-search")

    def in_server() -> int:
        found = qdrant_server.ask("/collections")["collections"]
        return sum(
            qdrant_server.ask(f"/collections/{one['name']}/points/count", {"exact": True})["count"]
            for one in found
        )

    interrupted(commands, corpus, signal.SIGKILL, in_server, SHARD_ROWS)
    collection, aliases, done = look(settings)
    assert (collection.state, aliases) == ("building", {})
    assert SHARD_ROWS <= len(done) < PICTURES
    assert "no collection 'images' yet" in commands.refused("search", "red")
    finish(commands, corpus, settings, done, collection.name)
    schema = qdrant_server.ask(f"/collections/{collection.name}")["payload_schema"]
    assert {name: field["data_type"] for name, field in schema.items()} == {
        **dict.fromkeys(("folder", "format", "orientation", "uri", "file_name", "content_hash"), "keyword"),
        **dict.fromkeys(("width", "height", "bytes"), "integer"),
    }
