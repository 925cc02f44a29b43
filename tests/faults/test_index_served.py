"""Index runs that have joined a server on the embedded store, which is killed after a counted batch: the run says so in one
line, and the same command ends the job without it. IMAGE_SEARCH_FAULT_SEED replays a seed.
"""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from batch_index.plan_file import SHARD_ROWS
from tests.fixtures.ports import free_port
from tests.fixtures.struck_run import BATCH, StruckRun, fill

pytestmark = pytest.mark.timeout(900)
GOOD = 2 * SHARD_ROWS - 30
BEFORE = 10
MAX_IN_FLIGHT = SHARD_ROWS
SEED = int(os.environ["IMAGE_SEARCH_FAULT_SEED"])  # of the whole test run (tests/conftest.py)


@contextmanager
def serving(run: StruckRun) -> Iterator[int]:
    """A server of the run's store, until it is killed; gives its process id."""
    with run.commands.start("serve", "--port", str(free_port())) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Image Search is ready"), process.communicate()
            yield process.pid
            assert process.wait() == -signal.SIGKILL
        finally:
            process.kill()


@pytest.mark.parametrize("published", [False, True], ids=["into a new collection", "into the published one"])
def test_a_run_ends_with_its_server_and_goes_on_without(published, tmp_path):
    after = random.Random(SEED).randint(1, GOOD // BATCH - 1)
    print(f"IMAGE_SEARCH_FAULT_SEED={SEED}: server killed after {after} batches")  # noqa: T201 - shown where the test fails
    pictures = tmp_path / "pictures"
    with StruckRun.on("embedded", tmp_path, [], in_flight=MAX_IN_FLIGHT) as run:
        if published:
            fill(pictures, BEFORE)
            run.finish(pictures)
        good, broken = fill(pictures, GOOD)
        with serving(run) as server:
            run.strike(after, "acknowledged", str(server))
            code, out, errors = run.index(pictures)
            assert (code, out, run.left) == (1, "", []), errors
        assert re.fullmatch(r"image-search: [^\n]* has ended[^\n]*\n", errors), errors
        run.commands.assert_nothing_left()
        run.finish(pictures)
        run.assert_done(good, broken)
