"""Index runs that are struck once all is loaded: as HNSW is built, at the gate and as the collection is published.

The same command ends the job: nothing is embedded again, and the collection is published, once. IMAGE_SEARCH_FAULT_SEED
replays a seed, and there are a third as many cases as IMAGE_SEARCH_FAULTS says.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.fixtures.struck_run import Strike, StruckRun, fill

pytestmark = pytest.mark.timeout(900)  # up to four runs of the command
GOOD = 200
MAX_IN_FLIGHT = 256
SEED = int(os.environ["IMAGE_SEARCH_FAULT_SEED"])  # of the whole test run (tests/conftest.py)
CASES = max(1, int(os.environ.get("IMAGE_SEARCH_FAULTS", "3")) // 3)
VICTIMS = {"embedded": ("driver", "owner"), "server": ("driver", "qdrant")}
REPEATED = (
    *("before annotate means", "after annotate means"),
    *("before optimize", "building", "built", "after optimize"),
    *(
        f"{when} annotate {what}"
        for what in ("last_run", "gate", "published")
        for when in ("before", "after")
    ),
    "before publish",
)
"""Moments of a run's end, in their order: what is left of one that is struck there comes again in the next."""
LAST = ("after publish", "before annotate state", "after annotate state")


def case(number: int) -> tuple[str, list[Strike]]:
    """A store and strikes; each moment comes first in one of so many cases in a row."""
    draw = random.Random(number)
    place = draw.choice(list(VICTIMS))
    moments = [moment for moment in REPEATED if place == "embedded" or moment != "built"]
    first = moments[number % len(moments)]
    second = draw.choice([moment for moment in moments if moment != first])
    chosen = (*sorted((first, second), key=moments.index), draw.choice(LAST))
    return place, [(1, moment, draw.choice(VICTIMS[place])) for moment in chosen]


@pytest.mark.parametrize("number", range(SEED, SEED + CASES))
def test_what_is_loaded_is_published_by_the_same_command(number, tmp_path):
    place, strikes = case(number)
    print(f"IMAGE_SEARCH_FAULT_SEED={SEED}: {place}, {strikes}")  # noqa: T201 - shown where the test fails
    good, broken = fill(tmp_path / "pictures", GOOD)
    with StruckRun.on(place, tmp_path, strikes, in_flight=MAX_IN_FLIGHT) as run:
        run.finish(tmp_path / "pictures")
        collection = run.assert_done(good, broken)
        assert run.embedded.total() == GOOD
        assert collection.metadata.keys() >= {"means", "last_run", "gate", "published"}
