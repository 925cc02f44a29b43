"""What acknowledged rows mean for the report, the quarantine and the coordinator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from batch_index import rows
from batch_index.metrics import IndexMetrics
from batch_index.quarantine import Quarantine
from batch_index.report import IndexReport
from batch_index.run import _acknowledge, _Outcome


def table(*records: dict[str, Any]) -> pa.Table:
    plain = {
        "shard": 0,
        "row": 1,
        "version": "v",
        "action": "added",
        "reason": "",
        "error": "",
        "text_mean": b"",
    }
    return pa.Table.from_pylist([{**plain, **record} for record in records], schema=rows.ACKNOWLEDGED)


def outcome(tmp_path, *failed: str) -> tuple[_Outcome, Quarantine, IndexReport]:
    quarantine, report = Quarantine(tmp_path / "quarantine.parquet"), IndexReport("c", "m")
    for uri in failed:
        quarantine.add(uri, "empty", "the file is empty", "old")
    return _Outcome(quarantine, report, IndexMetrics("c"), 10), quarantine, report


def test_each_row_counts_by_what_became_of_it(tmp_path):
    taken, quarantine, report = outcome(tmp_path, "mended", "other")
    done = taken.take(
        table(
            {"uri": "a", "outcome": rows.EMBED},
            {"uri": "b", "outcome": rows.EMBED, "action": "updated"},
            {"uri": "mended", "outcome": rows.REUSE},
            {"uri": "c", "outcome": rows.REUSE, "action": "moved"},
            {"uri": "broken", "outcome": rows.BROKEN, "reason": "truncated", "error": "cut off"},
            {"uri": "later", "outcome": rows.DEFERRED},
            {"uri": "before", "outcome": rows.DONE},
        )
    )
    assert done == 5
    assert (report.added, report.updated, report.moved, report.quarantined, report.embedded) == (
        2,
        1,
        1,
        1,
        2,
    )
    assert [(one.uri, one.reason, one.error, one.version) for one in quarantine.failures()] == [
        ("broken", "truncated", "cut off", "v"),
        ("other", "empty", "the file is empty", "old"),
    ]
    assert taken.text_mean is None


def test_the_mean_of_texts_comes_in_one_row(tmp_path):
    taken, _, _ = outcome(tmp_path)
    mean = np.arange(3, dtype=np.float32)
    taken.take(
        table(
            {"uri": "a", "outcome": rows.EMBED, "text_mean": mean.tobytes()},
            {"uri": "b", "outcome": rows.EMBED},
        )
    )
    np.testing.assert_array_equal(taken.text_mean, mean)


def test_each_shard_is_told_of_its_rows_and_of_what_was_put_off():
    told = []

    class Coordinator:
        def acknowledge(self, shard: int, done: list[int], deferred: list[int]) -> None:
            told.append((shard, done, deferred))

    given = table(
        {"uri": "a", "outcome": rows.EMBED, "shard": 4, "row": 7},
        {"uri": "b", "outcome": rows.DEFERRED, "shard": 4, "row": 8},
        {"uri": "c", "outcome": rows.BROKEN, "shard": 5, "row": 9},
    )
    _acknowledge(Coordinator(), given)  # type: ignore[arg-type]
    assert told == [(4, [7, 8], [8]), (5, [9], [])]
