"""How far a run is: what its stages have done, and how fast that goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class StageCount:
    """What a stage has done: pictures, and seconds of work summed over its workers."""

    pictures: int = 0
    seconds: float = 0.0


@dataclass
class Progress:
    """How far the run is."""

    stages: dict[str, StageCount] = field(default_factory=dict)
    in_flight: int = 0


class Rates:
    """What the stages of a run do a second, from one look to the next, in words. The first look only begins."""

    def __init__(self, look: Callable[[], Progress], clock: Callable[[], float] = time.monotonic) -> None:
        self._look, self._clock = look, clock
        self._then: float | None = None
        self._before: Mapping[str, StageCount] = {}

    def __call__(self) -> str:
        """For instance `prepare 2,050/s, embed 2,040/s, write 2,030/s, 3,904 in flight`."""
        progress, now = self._look(), self._clock()
        parts = []
        if self._then is not None:
            passed = max(now - self._then, 1e-9)
            parts = [
                f"{name} {(count.pictures - self._before.get(name, StageCount()).pictures) / passed:,.0f}/s"
                for name, count in progress.stages.items()
            ]
        self._then, self._before = now, progress.stages
        return ", ".join([*parts, f"{progress.in_flight:,} in flight"])
