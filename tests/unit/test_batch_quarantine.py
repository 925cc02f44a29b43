"""The quarantine: what failed, why, and that it is not tried again for nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest

from batch_index.quarantine import SAVED_TOGETHER, Quarantine
from search_core.errors import StoreError


def test_a_failure_is_kept_with_its_reason(tmp_path):
    path = Quarantine.path_of(tmp_path, "images__f__1")
    before = datetime.now(UTC)
    quarantine = Quarantine(path)
    quarantine.add("file:///b.jpg", "truncated", "cut off (ü)", "10:5")
    quarantine.add("file:///a.jpg", "empty", "the file is empty", "0:5")
    quarantine.save()
    back = Quarantine(path)
    assert [(f.uri, f.reason, f.error, f.version) for f in back.failures()] == [
        ("file:///a.jpg", "empty", "the file is empty", "0:5"),
        ("file:///b.jpg", "truncated", "cut off (ü)", "10:5"),
    ]
    assert all(before <= failure.time <= datetime.now(UTC) for failure in back.failures())
    assert len(back) == 2


def test_it_is_a_table_that_others_can_read(tmp_path):
    quarantine = Quarantine(tmp_path / "q.parquet")
    quarantine.add("file:///a.jpg", "empty", "the file is empty", "0:5")
    quarantine.save()
    table = pq.read_table(tmp_path / "q.parquet")
    assert {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)} == {
        "uri": "string",
        "reason": "string",
        "error": "string",
        "time": "timestamp[us, tz=UTC]",
        "version": "string",
    }


def test_a_file_is_held_until_it_changes(tmp_path):
    quarantine = Quarantine(tmp_path / "q.parquet")
    quarantine.add("file:///a.jpg", "empty", "the file is empty", "0:5")
    assert quarantine.holds("file:///a.jpg", "0:5")
    assert not quarantine.holds("file:///a.jpg", "9:6")
    assert not quarantine.holds("file:///b.jpg", "0:5")


def test_a_file_fails_once_however_often_it_is_tried(tmp_path):
    quarantine = Quarantine(tmp_path / "q.parquet")
    quarantine.add("file:///a.jpg", "empty", "the file is empty", "0:5")
    quarantine.add("file:///a.jpg", "truncated", "cut off", "3:6")
    (failure,) = quarantine.failures()
    assert (failure.reason, failure.version) == ("truncated", "3:6")


def test_what_is_released_is_forgotten_and_an_empty_quarantine_has_no_file(tmp_path):
    path = tmp_path / "q.parquet"
    quarantine = Quarantine(path)
    quarantine.save()
    assert not path.exists()
    quarantine.add("file:///a.jpg", "empty", "the file is empty", "0:5")
    quarantine.save()
    quarantine.release(["file:///a.jpg", "file:///never.jpg"])
    assert path.exists()
    quarantine.save()
    assert list(tmp_path.iterdir()) == []
    assert Quarantine(path).failures() == []


@pytest.mark.parametrize("content", [b"", b"no parquet at all", b"PAR1 cut off"])
def test_a_damaged_file_says_the_mend(tmp_path, content):
    (tmp_path / "q.parquet").write_bytes(content)
    with pytest.raises(
        StoreError, match=r"q\.parquet cannot be read: .*; delete it to try all its pictures again"
    ) as caught:
        Quarantine(tmp_path / "q.parquet")
    assert "\n" not in str(caught.value)


def test_many_failures_are_on_disk_before_the_end(tmp_path):
    quarantine = Quarantine(tmp_path / "q.parquet")
    for number in range(SAVED_TOGETHER):
        quarantine.save_some()
        assert len(Quarantine(tmp_path / "q.parquet")) == 0
        quarantine.add(f"https://example.com/{number}", "unreachable", "no answer", "v")
    quarantine.save_some()
    assert len(Quarantine(tmp_path / "q.parquet")) == SAVED_TOGETHER


@pytest.mark.parametrize(
    ("uri", "reason", "out"),
    [
        ("file:///a.jpg", "missing", True),
        ("s3://bucket/a.jpg", "missing", True),
        ("s3://bucket/a.jpg", "unreachable", True),
        ("https://example.com/a.jpg", "unreachable", True),
        ("https://example.com/a.jpg", "missing", False),  # it answered: 404
        ("file:///t.parquet#0.0", "missing", False),  # a row without a picture
        ("file:///a.jpg", "truncated", False),
    ],
)
def test_what_was_listed_and_was_not_there_is_told_from_what_is_broken(tmp_path, uri, reason, out):
    quarantine = Quarantine(tmp_path / "q.parquet")
    quarantine.add(uri, reason, "", "v")
    (failure,) = quarantine.failures()
    assert failure.is_out_of_reach is out
