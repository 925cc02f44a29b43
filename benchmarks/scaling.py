"""How replicas follow the load: `make scaling-report` draws docs/images/scaling.png.

On a cluster of three nodes on this machine (`tests.fixtures.rehearsal`) clients ask by picture, then by text, then of a
store that answers late, with pauses between. Once a second the running replicas of each stage are counted.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.machine import describe
from tests.fixtures.load import Ask, load
from tests.fixtures.queries import by_id, by_picture, by_text
from tests.fixtures.rehearsal import FAKE_DELAY_MS, STAGES, Rehearsal, rehearsed

CLIENTS = 16
SLOW_S = 0.3
WINDOW_S = 2.0


@dataclass
class Timeline:
    """What was seen, in seconds since the start."""

    start: float = field(default_factory=time.time)
    phases: list[tuple[str, float, float]] = field(default_factory=list)
    replicas: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    again: int = 0

    def now(self) -> float:
        return time.time() - self.start


@contextmanager
def counted(timeline: Timeline, one: Rehearsal) -> Iterator[None]:
    """Counts replicas once a second for as long as the context lasts."""
    stop = threading.Event()

    def count() -> None:
        while not stop.wait(1.0):
            now = one.cluster.details()
            timeline.replicas.append((timeline.now(), {stage: now.count(stage) for stage in STAGES}))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def phase(timeline: Timeline, one: Rehearsal, name: str, ask: Ask, seconds: float, pause_s: float) -> None:
    """One load, and the pause after it."""
    begin = timeline.now()
    with load(one.cluster.urls, CLIENTS, ask) as running:
        time.sleep(seconds)
    timeline.phases.append((name, begin, timeline.now()))
    timeline.latencies += [(at - timeline.start, took) for at, took in running.latencies]
    timeline.again += sum(running.again.values())
    time.sleep(pause_s)


def measure(seconds: float, pause_s: float) -> Timeline:
    """The whole run; no request may fail."""
    with tempfile.TemporaryDirectory() as folder, rehearsed(Path(folder)) as one:
        timeline = Timeline()
        with counted(timeline, one):
            time.sleep(5)
            phase(timeline, one, "by picture", by_picture, seconds, pause_s)
            phase(timeline, one, "by text", by_text, seconds, pause_s)
            one.store.delay_s = SLOW_S
            phase(timeline, one, "slow store", by_id(one.ids["red"]), seconds, 0)
            one.store.delay_s = 0.0
            time.sleep(pause_s)
    return timeline


def draw(timeline: Timeline, path: Path) -> None:
    """Replicas above, latency below, both over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    machine = describe()
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(10, 6), layout="constrained")
    times = [at for at, _ in timeline.replicas]
    for offset, stage in enumerate(STAGES):
        counts = np.array([now[stage] for _, now in timeline.replicas])
        above.step(times, counts + 0.03 * offset, where="post", label=stage, linewidth=2)
    above.set(ylabel="replicas", yticks=range(4), ylim=(0, 4))
    above.legend(loc="upper right", ncols=len(STAGES))
    at, took = np.array(timeline.latencies).T
    windows = np.arange(0, at.max() + WINDOW_S, WINDOW_S)
    for percent in (50, 95):
        below.plot(*_windowed(at, took * 1000, windows, percent), label=f"p{percent}")
    below.set(xlabel="seconds", ylabel="milliseconds", ylim=(0, None))
    below.legend(loc="upper left")
    for name, begin, end in timeline.phases:
        for axes in (above, below):
            axes.axvspan(begin, end, alpha=0.12, color="grey")
        above.text((begin + end) / 2, 3.3, name, ha="center")
    figure.suptitle(
        f"{CLIENTS} clients, fake encoders of {FAKE_DELAY_MS} ms an input, a store {SLOW_S * 1000:.0f} ms late; "
        f"{len(at):,} requests, none failed\n{machine['cores']} cores, {machine['processor']}, Ray {machine['packages']['ray']}",
        fontsize=9,
    )
    figure.savefig(path, dpi=110)


def _windowed(
    at: np.ndarray, values: np.ndarray, windows: np.ndarray, percent: int
) -> tuple[np.ndarray, np.ndarray]:
    """A percentile for each window; NaN, a gap in the line, where there was no answer."""
    index = np.digitize(at, windows)
    found = [
        np.percentile(values[index == number], percent) if (index == number).any() else np.nan
        for number in range(1, len(windows) + 1)
    ]
    return windows, np.array(found)


def main() -> None:
    """Measures, and draws what it measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/scaling.png"))
    parser.add_argument("--seconds", type=float, default=40, help="length of each load")
    parser.add_argument("--pause", type=float, default=25, help="length of each pause")
    options = parser.parse_args()
    timeline = measure(options.seconds, options.pause)
    draw(timeline, options.out)
    most = {stage: max(now[stage] for _, now in timeline.replicas) for stage in STAGES}
    print(f"most replicas: {most}; requests: {len(timeline.latencies)}; asked again: {timeline.again}")
    print(f"drawn: {options.out}")


if __name__ == "__main__":
    main()
