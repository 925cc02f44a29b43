"""Memory of an index run does not grow with its rows: 20,000 small pictures of the benchmark, watched as they come in."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections import Counter

from benchmarks.memory import family_memory
from benchmarks.scale import make_corpus, start
from tests.fixtures.commands import PATIENCE_S

ROWS = 20_000
WARM = 8_000
"""By then every process has started and has seen all kinds of its work."""
DRIVER_BYTES_A_ROW = 250
"""Less than the id and the address of a picture as Python objects."""
BYTES_A_ROW = 2_000
"""Less than a vector (2,048), or a picture as pixels (3,072). The store's index of content hashes takes 550."""
SHOWN = re.compile(r"indexing: ([\d,]+) of 20,000 pictures")


def kinds(pid: int) -> Counter[str]:
    """Private bytes by kind of process; a worker is named by what it does, which changes."""
    found: Counter[str] = Counter()
    for number, one in enumerate(family_memory(pid)):
        kind = re.sub(r"^(ray::\w+).*", r"\1", one.name)
        if number == 0:
            kind = "driver"
        elif kind in {"ray::IDLE", "ray::ReadPlanSource"}:
            kind = "preparers"
        found[kind] += one.private
    return found


def test_memory_does_not_grow_with_rows(tmp_path):
    make_corpus(tmp_path / "pictures", ROWS)
    store = tmp_path / "store"
    shown_always = {"IMAGE_SEARCH_INDEX__PROGRESS_S": "0.000001"}
    with start(tmp_path / "pictures", store, stderr=subprocess.PIPE, **shown_always) as process:
        try:
            seen: dict[int, Counter[str]] = {}
            line = ""
            assert process.stderr is not None
            for line in process.stderr:
                shown = SHOWN.match(line)
                if shown is None:
                    continue
                rows = int(shown[1].replace(",", ""))
                if rows >= WARM:
                    process.send_signal(signal.SIGSTOP)  # so that it cannot end meanwhile
                    seen[rows] = kinds(process.pid)
                    process.send_signal(signal.SIGCONT)
            out, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 0, line
    assert json.loads(out)["added"] == ROWS
    first, last = min(seen), max(seen)
    assert (first < WARM + 2_000, last) == (True, ROWS)
    more = last - first
    grown = {kind: seen[last][kind] - before for kind, before in seen[first].items() if kind in seen[last]}
    assert {"driver", "preparers", "ray::MapWorker", "ray::EdgeOwner", "ray::Coordinator"} <= set(grown)
    assert grown["driver"] <= more * DRIVER_BYTES_A_ROW, grown
    assert all(growth <= more * BYTES_A_ROW for growth in grown.values()), grown
