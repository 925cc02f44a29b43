"""Index runs whose processes are killed after counted batches, again and again: the same command ends the job, and
repeats nothing.

IMAGE_SEARCH_FAULT_SEED replays a seed, IMAGE_SEARCH_FAULTS says how many cases to run.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from batch_index.plan_file import SHARD_ROWS
from tests.fixtures.struck_run import Strike, StruckRun, fill

pytestmark = pytest.mark.timeout(900)  # up to four runs of the command
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
SEED = int(os.environ["IMAGE_SEARCH_FAULT_SEED"])  # of the whole test run (tests/conftest.py)


@dataclass(frozen=True)
class Case:
    """A store, and who is struck after how many acknowledged batches."""

    place: str
    strikes: list[Strike]

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
        return Case(place, [(draw.randint(1, MOST_BATCHES), "acknowledged", victim) for victim in victims])

    def __str__(self) -> str:
        return "-".join([self.place, *(f"{victim}{batches}" for batches, _, victim in self.strikes)])


CASES = [Case.of(SEED + number) for number in range(int(os.environ.get("IMAGE_SEARCH_FAULTS", "3")))]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    fill(folder, GOOD, BROKEN)
    return folder


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_command_ends_the_job(case, pictures, tmp_path):
    print(f"IMAGE_SEARCH_FAULT_SEED={SEED}: {case}")  # noqa: T201 - shown where the test fails
    with StruckRun.on(case.place, tmp_path, case.strikes, in_flight=MAX_IN_FLIGHT) as run:
        report = run.finish(pictures)
        assert report["seen"] == GOOD + BROKEN
        run.assert_done(list(pictures.glob("????.png")), list(pictures.glob("*-broken.png")))
