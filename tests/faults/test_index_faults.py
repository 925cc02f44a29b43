"""Index runs whose processes are killed after counted batches, again and again: the same command ends the job, and
repeats nothing.

IMAGE_SEARCH_FAULT_SEED replays a seed, IMAGE_SEARCH_FAULTS says how many cases to run.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batch_index.plan_file import SHARD_ROWS
from batch_index.quarantine import Quarantine
from search_core.pictures import file_uri
from search_core.settings import StoreSettings
from search_core.stores import open_store
from tests.fixtures.commands import PATIENCE_S, Commands
from tests.fixtures.pictures import put, unique
from tests.fixtures.qdrant_server import QdrantServer
from tests.fixtures.ray_cluster import RayCluster
from tests.fixtures.stores import everything
from tests.fixtures.watched_embed import LOG_VARIABLE

pytestmark = pytest.mark.timeout(900)  # up to four runs of the command
BATCH = 32
GOOD, BROKEN = 4 * SHARD_ROWS - 5, 5
MAX_IN_FLIGHT = SHARD_ROWS
MOST_BATCHES, MOST_STRIKES = 5, 3
"""Few enough that no run is through before the last strike, even if all in flight at a strike is found written."""
EVERYWHERE = ("driver", "embed", "coordinator")
PLACES = {
    "embedded": (*EVERYWHERE, "owner"),
    "server": (*EVERYWHERE, "qdrant"),
    "cluster": (*EVERYWHERE, "qdrant", "node"),
}
VICTIMS = ("driver", "owner", "node", "embed", "qdrant", "coordinator")
NODES = 2
GOES_ON = {"embed", "node"}
LINES = {
    "driver": "",
    "owner": "image-search: the process that holds the store has ended: .*",
    "qdrant": "image-search: the Qdrant server at http://127.0.0.1:[0-9]+ does not answer: .*",
    "coordinator": r"image-search: a process of this run has ended \(ActorDiedError\); run the same command again to go on",
}
SEED = int(os.environ["IMAGE_SEARCH_FAULT_SEED"])  # of the whole test run (tests/conftest.py)


@dataclass(frozen=True)
class Case:
    """A store, and who is struck after how many acknowledged batches."""

    place: str
    strikes: list[tuple[int, str]]

    @staticmethod
    def of(number: int) -> Case:
        """Each victim comes first in one of six cases in a row."""
        draw = random.Random(number)
        first = VICTIMS[number % len(VICTIMS)]
        place = draw.choice(
            [place for place, its in PLACES.items() if first in its and place != "cluster"] or ["cluster"]
        )
        others = [victim for victim in PLACES[place] if victim != "node"]  # one node must stay
        victims = [first, *draw.choices(others, k=draw.randrange(MOST_STRIKES))]
        return Case(place, [(draw.randint(1, MOST_BATCHES), victim) for victim in victims])

    def __str__(self) -> str:
        return "-".join([self.place, *(f"{victim}{batches}" for batches, victim in self.strikes)])


CASES = [Case.of(SEED + number) for number in range(int(os.environ.get("IMAGE_SEARCH_FAULTS", "3")))]


class Run:
    """The command of one case, on a store of its own."""

    def __init__(self, case: Case, folder: Path, stack: ExitStack) -> None:
        self.place, self.folder = case.place, folder
        self.log, self._strikes = folder / "log.jsonl", folder / "strikes.json"
        self.qdrant: QdrantServer | None = None
        settings = {
            LOG_VARIABLE: str(self.log),
            "IMAGE_SEARCH_INDEX__BATCH_SIZE": str(BATCH),
            "IMAGE_SEARCH_INDEX__MAX_IN_FLIGHT": str(MAX_IN_FLIGHT),
        }
        if self.place == "embedded":
            self.store = StoreSettings(path=folder / "store", lock_timeout_s=60)
            where = ["--store", str(self.store.path)]
        else:
            self.qdrant = stack.enter_context(QdrantServer(folder / "qdrant"))
            self.store = self.qdrant.settings(folder / ".image-search")
            where = ["--qdrant-url", self.qdrant.url]
            settings["IMAGE_SEARCH_STORE__QDRANT_GRPC_PORT"] = str(self.qdrant.grpc_port)
        self._where = where
        self._commands = Commands(folder, *where, **settings)
        if self.place == "cluster":
            mark = self._commands.environment["IMAGE_SEARCH_TEST_RUN"]
            cluster = stack.enter_context(
                RayCluster(NODES, STRUCK_CLUSTER=mark, **{LOG_VARIABLE: str(self.log)})
            )
            self._commands.environment["RAY_ADDRESS"] = cluster.address
        self.left = case.strikes
        """Strikes to come."""

    def index(self, pictures: Path) -> tuple[int, str, str]:
        """Runs the command to its end; gives its exit code, output and errors."""
        pid = str(self.qdrant and self.qdrant.pid)
        self._strikes.write_text(
            json.dumps([(batches, pid if victim == "qdrant" else victim) for batches, victim in self.left])
        )
        words = [str(self._strikes), "index", str(pictures), "--json", *self._where]
        with subprocess.Popen(
            [sys.executable, "-m", "tests.fixtures.struck_index", *words],
            env=self._commands.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, errors = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
        self._commands.assert_nothing_left()
        self.left = self.left[len(self.left) - len(json.loads(self._strikes.read_text())) :]
        return process.returncode, out, errors

    def events(self) -> list[dict[str, Any]]:
        """The log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stored(self) -> tuple[str, list[str]]:
        """The only collection and the URIs in it."""

        async def looking() -> tuple[str, list[str]]:
            store = open_store(self.store)
            try:
                (collection,) = await store.collections()
                points = await everything(store, collection.name)
                return collection.name, [point.payload["uri"] for point in points]
            finally:
                await store.close()

        return asyncio.run(looking())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(GOOD):
        put(folder, f"{number:04}.png", unique(number))
    for number in range(BROKEN):
        put(folder, f"{number * SHARD_ROWS // 2:04}-broken.png", b"no picture")
    return folder


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_command_ends_the_job(case, pictures, tmp_path, stack):
    print(f"IMAGE_SEARCH_FAULT_SEED={SEED}: {case}")  # noqa: T201 - shown where the test fails
    run = Run(case, tmp_path, stack)
    for _ in range(len(case.strikes) + 1):
        before = run.left
        code, out, errors = run.index(pictures)
        if code == 0:
            break
        struck = before[: len(before) - len(run.left)]
        assert struck, errors
        victim = struck[-1][1]
        assert victim not in GOES_ON, errors
        assert (code, out) == (-signal.SIGKILL if victim == "driver" else 1, "")
        assert re.fullmatch(LINES[victim], errors.rstrip()), errors
        if victim == "qdrant":
            assert run.qdrant is not None
            run.qdrant.kill()
            run.qdrant.__enter__()
    assert (code, errors, run.left) == (0, "", [])
    assert json.loads(out)["seen"] == GOOD + BROKEN

    good, broken = (sorted(map(file_uri, pictures.glob(f"????{kind}.png"))) for kind in ("", "-broken"))
    name, uris = run.stored()
    assert sorted(uris) == good
    failures = Quarantine(Quarantine.path_of(run.store.path, name)).failures()
    assert [one.uri for one in failures] == broken

    written: set[str] = set()
    embedded, acknowledged = Counter[str](), Counter[str]()
    for event in run.events():
        embedding = event.get("embedding", [])
        assert not written & set(embedding), "embedded again"
        embedded.update(embedding)
        written.update(event.get("written", []))
        acknowledged.update(event.get("acknowledged", []))
        assert event.get("in_flight", 0) <= MAX_IN_FLIGHT
    assert sorted(embedded) == good
    assert max(acknowledged.values()) == 1
    assert embedded.total() <= GOOD + len(case.strikes) * MAX_IN_FLIGHT
