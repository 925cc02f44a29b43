"""What a run says it did."""

from __future__ import annotations

from batch_index.report import IndexReport


def report(**values) -> IndexReport:
    return IndexReport(
        "images__f__1", "fake", **{"seen": 10, "added": 4, "unchanged": 6, "seconds": 2.0, **values}
    )


def test_the_contract_names_these_fields():
    contract = {
        "seen", "added", "updated", "moved", "unchanged", "deleted", "quarantined", "seconds", "images_per_second",
        "collection", "model",
    }  # fmt: skip
    values = report(seconds=1.23456).to_dict()
    assert contract <= set(values)
    assert (values["seconds"], values["images_per_second"]) == (1.23, 8.1)
    assert (values["collection"], values["model"]) == ("images__f__1", "fake")


def test_a_run_of_no_time_has_no_pace():
    assert report(seconds=0.0).to_dict()["images_per_second"] == 0.0


def test_a_dry_run_says_so():
    dry = report(added=0)
    dry.foresee(added=3, updated=2, moved=1, deleted=5)
    assert dry.to_dict()["dry_run"] is True
    assert [dry.added, dry.updated, dry.moved, dry.deleted] == [3, 2, 1, 5]
    assert "at most (nothing was changed; broken pictures are found when" in dry.to_text()
    assert "nothing was changed" not in report().to_text()


def test_people_read_every_count():
    text = report(updated=1, moved=2, deleted=3, quarantined=7).to_text()
    lines = {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines()[1:])}
    assert lines == {
        "seen": "10", "added": "4", "updated": "1", "moved": "2", "unchanged": "6", "deleted": "3", "quarantined": "7",
    }  # fmt: skip
    assert "5 pictures/s" in text
