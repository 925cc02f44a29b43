"""Pictures over which the decoding process ends: they are found, quarantined, and hold up nothing else."""

from __future__ import annotations

import json
import sys

import pytest

from batch_index.plan_file import SHARD_ROWS
from tests.fixtures.commands import Commands
from tests.fixtures.pictures import put, unique
from tests.fixtures.poisoned_prepare import POISON

GOOD = SHARD_ROWS + 20
PROGRAM = (sys.executable, "-m", "tests.fixtures.poisoned_index")


@pytest.mark.timeout(300)
def test_pictures_that_end_their_process_are_quarantined(tmp_path):
    pictures = tmp_path / "pictures"
    for number in range(GOOD):
        put(pictures, f"{number:04}.png", unique(number))
    names = [f"0010-{POISON}.png", f"0011-{POISON}.png", f"{GOOD:04}-{POISON}.png"]
    poisoned = [put(pictures, name, unique(GOOD + number)) for number, name in enumerate(names)]
    commands = Commands(tmp_path, "--store", str(tmp_path / "store"))
    out, errors = commands.run("index", pictures, "--json", program=PROGRAM)
    commands.assert_nothing_left()
    report = json.loads(out)
    assert errors == ""
    assert (report["added"], report["embedded"], report["quarantined"]) == (GOOD, GOOD, len(names))
    (row,) = commands.json("status")["collections"]
    assert row["count"] == GOOD
    assert [(one["uri"], one["reason"]) for one in row["quarantine"]] == [
        (path.as_uri(), "crashed") for path in poisoned
    ]
    again = commands.light("index", pictures)
    assert (again["unchanged"], again["quarantined"]) == (GOOD, len(names))
