"""What people see of a run: lines now and then, with pace and remaining time; nothing where nothing was asked for."""

from __future__ import annotations

import io

import pytest

from batch_index.display import Display, duration
from batch_index.progress import Progress, Rates, StageCount


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_when_the_last_one_is_long_enough_ago():
    out, clock = io.StringIO(), Clock()
    asked = []
    display = Display(30, out, clock)
    with display.phase("indexing", 10_000, lambda: asked.append(1) or "2 in flight") as advance:
        clock.now += 1000  # until everything has started
        advance(500)
        for _ in range(5):
            clock.now += 10
            advance(100)
    lines = [
        "indexing: 600 of 10,000 pictures, 10/s, 16 min left (2 in flight)\n",
        "indexing: 900 of 10,000 pictures, 10/s, 15 min left (2 in flight)\n",
    ]
    assert out.getvalue() == "".join(lines)
    assert len(asked) == 1 + len(lines)


def test_what_has_no_end_yet_has_no_remaining_time():
    out, clock = io.StringIO(), Clock()
    with Display(1, out, clock).phase("listing") as advance:
        advance(0)
        clock.now += 2
        advance(1000)
    assert out.getvalue() == "listing: 1,000 pictures, 500/s\n"


def test_where_no_lines_are_wanted_nothing_is_written():
    out, clock = io.StringIO(), Clock()
    display = Display(0, out, clock)
    with display.phase("indexing", 10) as advance:
        clock.now += 1000
        advance(10)
    display.say("building")
    assert out.getvalue() == ""


def test_a_terminal_gets_a_bar_with_the_details():
    out, clock = Terminal(), Clock()
    display = Display(0, out, clock)
    with display.phase("indexing", 1000, lambda: "prepare 5/s") as advance:
        clock.now += 60
        advance(1000)
    display.say("building")
    bar, building = out.getvalue().rsplit("\n", 2)[:2]
    assert "indexing: 100%" in bar
    assert "prepare 5/s" in bar
    assert building == "building"


def test_rates_are_those_since_the_last_look():
    clock, progress = Clock(), Progress()
    rates = Rates(lambda: progress, clock)
    clock.now += 1000  # until everything has started
    progress = Progress({"prepare": StageCount(700, 0.5)}, in_flight=600)
    assert rates() == "600 in flight"
    progress = Progress({"prepare": StageCount(2700, 1.5)}, in_flight=500)
    clock.now += 2
    assert rates() == "prepare 1,000/s, 500 in flight"
    progress = Progress({"prepare": StageCount(3100, 1.9), "embed": StageCount(6000, 3.0)}, in_flight=1500)
    clock.now += 4
    assert rates() == "prepare 100/s, embed 1,500/s, 1,500 in flight"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (99, "99 s"), (150, "2 min"), (5900, "98 min"), (11_100, "3 h 05 min")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words
