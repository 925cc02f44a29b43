"""Where people see how far a run is: a bar on a terminal; elsewhere a line on stderr now and then, as logs want it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm

Details = Callable[[], str]
"""What else is to be said; asked when the first pictures are done, and from then on when something is shown."""
REFRESH_S = 0.5


class Display:
    """See the module. `every_s` is the time between lines where there is no terminal; 0 is for none."""

    def __init__(
        self,
        every_s: float,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._every_s = every_s
        self._clock = clock

    def say(self, line: str) -> None:
        """A line by itself, where lines are shown at all."""
        if self._is_terminal or self._every_s:
            self._stream.write(f"{line}\n")
            self._stream.flush()

    @contextmanager
    def phase(
        self, name: str, total: int | None = None, details: Details | None = None
    ) -> Iterator[Callable[[int], None]]:
        """Shows a part of the run while the context lasts; gives what is told of each few pictures done."""
        if not self._is_terminal:
            yield _Lines(self, name, total, details).advance if self._every_s else _nothing
            return
        with tqdm(
            desc=name,
            total=total,
            unit=" pictures",
            unit_scale=True,
            file=self._stream,
            mininterval=REFRESH_S,
        ) as bar:
            shown: float | None = None

            def advance(pictures: int) -> None:
                nonlocal shown
                if details is not None and (shown is None or self._clock() - shown >= REFRESH_S):
                    shown = self._clock()
                    bar.set_postfix_str(details(), refresh=False)
                bar.update(pictures)

            yield advance

    @property
    def _is_terminal(self) -> bool:
        return self._stream.isatty()


class _Lines:
    """A phase as lines of text."""

    def __init__(self, display: Display, name: str, total: int | None, details: Details | None) -> None:
        self._display, self._name, self._total, self._details = display, name, total, details
        self._shown = display._clock()
        self._began: float | None = (
            None  # with the first pictures: what starts before them says nothing of the pace
        )
        self._done = self._first = 0

    def advance(self, pictures: int) -> None:
        """Writes a line if the last one is long enough ago."""
        self._done += pictures
        now = self._display._clock()
        if self._began is None:
            self._began, self._first = now, self._done
            if self._details is not None:
                self._details()
            return
        if now - self._shown < self._display._every_s:
            return
        self._shown = now
        rate = (self._done - self._first) / max(now - self._began, 1e-9)
        line = f"{self._name}: {self._done:,}"
        if self._total is not None:
            line += f" of {self._total:,}"
        line += f" pictures, {rate:,.0f}/s"
        if self._total is not None and rate:
            line += f", {duration((self._total - self._done) / rate)} left"
        if self._details is not None:
            line += f" ({self._details()})"
        self._display.say(line)


def duration(seconds: float) -> str:
    """Seconds as people say them: `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _nothing(pictures: int) -> None:
    """Shows nothing."""
