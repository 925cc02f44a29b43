"""The plan: each file is added, updated, copied, moved or left alone, and nothing else is touched."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_index import rows
from batch_index.plan import Plan, batched
from search_core.errors import SourceError
from search_core.pictures import local_path
from search_core.points import point_id
from tests.fixtures.pictures import encoded, photo, plain, put, unique
from tests.fixtures.shelf import Run, Shelf, gone, tasks


@pytest.fixture(params=[64, 1], ids=["together", "one_by_one"])
def shelf(tmp_path, request):
    """All of it holds whether pictures are read together or one is written before the next is read."""
    shelf = Shelf(tmp_path, request.param)
    yield shelf
    shelf.close()


def name_of(uri: str) -> str:
    path = local_path(uri)
    assert path is not None
    return path.name


def told(what: Plan | Run) -> dict[str, list[str]]:
    """What is to be read and embedded and what takes over a known vector, or what was: by file name, with its action."""
    if isinstance(what, Run):
        found = [(row["outcome"] == rows.REUSE, row["action"], row["uri"]) for row in what.rows]
    else:
        found = [(bool(task.origin), task.action, task.uri) for task in tasks(what)]
    return {
        kind: sorted(
            f"{action} {name_of(uri)}" for reused, action, uri in found if reused == (kind == "copy")
        )
        for kind in ("embed", "copy")
    }


def assert_whole(what: Plan | Run, files: int) -> None:
    """Every file is in exactly one place."""
    plan, uris = (
        (what.plan, [row["uri"] for row in what.rows])
        if isinstance(what, Run)
        else (what, [task.uri for task in tasks(what)])
    )
    assert plan.seen == files
    assert len(set(uris)) == len(uris) == plan.tasks
    assert plan.seen == len(uris) + plan.unchanged + plan.quarantined
    assert plan.deleted == len(gone(plan))


def test_new_files_are_added(shelf):
    put(shelf.root, "a.png", unique(1))
    put(shelf.root, "sub/b.png", unique(2))
    plan = shelf.plan()
    assert told(plan) == {"embed": ["added a.png", "added b.png"], "copy": []}
    assert_whole(plan, 2)
    assert not plan.is_empty


def test_without_a_collection_everything_is_new(shelf):
    put(shelf.root, "a.png", unique(1))
    shelf.index()
    assert told(shelf.plan(collection=None))["embed"] == ["added a.png"]


def test_a_second_run_has_nothing_to_do(shelf):
    for number in range(5):
        put(shelf.root, f"{number}.png", unique(number))
    shelf.index()
    plan = shelf.plan()
    assert plan.is_empty
    assert plan.unchanged == 5
    assert_whole(plan, 5)


def test_a_second_run_over_a_table_has_nothing_to_do(shelf):
    """Though the sizes of its rows are unknown, and one of them is broken."""
    path = shelf.root / "a.parquet"
    pq.write_table(pa.table({"image": [unique(1), unique(2), b"broken"], "caption": ["a", "b", "c"]}), path)
    assert len(shelf.index(path).rows) == 3
    plan = shelf.plan(path, delete_missing=True)
    assert plan.is_empty
    assert (plan.unchanged, plan.quarantined) == (2, 1)
    assert sorted(point.payload["caption"] for point in shelf.points().values()) == ["a", "b"]


def test_a_second_run_has_nothing_to_do_whatever_columns_came_along(shelf):
    """What the store gives back must equal what would be written now."""
    put(shelf.root, "a.png", unique(1))
    columns = {
        "text": "ä\n日本", "int": 3, "big": 2**62, "huge": 2**70, "negative": -1, "float": 0.1, "whole": 2.0, "tiny": 1e-300,
        "yes": True, "none": None, "list": [1, "a", None, [2.5]], "empty": [], "nothing": {}, "nested": {"a": {"b": None}},
        "": "unnamed", "with space": 1, "dot.ted": 2, "quo\"ted": 3, "width": "mine", "half": "\ud83d",
    }  # fmt: skip
    line = {"image": "a.png", "captions": ["one", "  two "], **columns}
    (shelf.root / "captions.jsonl").write_text(json.dumps(line))
    shelf.index()
    assert shelf.points()["pictures/a.png"].payload["nested"] == {"a": {"b": None}}
    plan = shelf.plan()
    assert told(plan) == {"embed": [], "copy": []}
    assert plan.unchanged == 1


def test_a_changed_file_is_updated(shelf):
    put(shelf.root, "a.png", unique(1))
    put(shelf.root, "b.png", unique(2))
    shelf.index()
    put(shelf.root, "a.png", unique(3))
    plan = shelf.plan()
    assert told(plan) == {"embed": ["updated a.png"], "copy": []}
    assert_whole(plan, 2)


def test_a_file_that_was_only_touched_is_not_embedded_again(shelf):
    path = put(shelf.root, "a.png", unique(1))
    shelf.index()
    before = shelf.points()["pictures/a.png"]
    os.utime(path, ns=(0, 1_700_000_000_000_000_000))
    run = shelf.index()
    assert told(run) == {"embed": [], "copy": ["updated a.png"]}
    after = shelf.points()["pictures/a.png"]
    assert (after.vector == before.vector).all()
    assert after.payload["modified"] == "2023-11-14T22:13:20.000000Z"
    assert shelf.plan().unchanged == 1


def test_a_changed_caption_is_written_without_embedding(shelf):
    put(shelf.root, "a.png", unique(1))
    shelf.index()
    (shelf.root / "a.txt").write_text("new words")
    run = shelf.index()
    assert told(run) == {"embed": [], "copy": ["updated a.png"]}
    assert shelf.points()["pictures/a.png"].payload["caption"] == "new words"
    (shelf.root / "a.txt").unlink()
    shelf.index()
    assert "caption" not in shelf.points()["pictures/a.png"].payload


def test_a_moved_file_takes_its_vector_along(shelf):
    put(shelf.root, "a.png", unique(1))
    put(shelf.root, "b.png", unique(2))
    shelf.index()
    before = shelf.points()["pictures/a.png"]
    (shelf.root / "sub").mkdir()
    (shelf.root / "a.png").rename(shelf.root / "sub" / "c.png")
    run = shelf.index()
    assert told(run) == {"embed": [], "copy": ["moved c.png"]}
    assert gone(run.plan) == []
    assert_whole(run, 2)
    after = shelf.points()
    assert sorted(after) == ["pictures/b.png", "pictures/sub/c.png"]
    assert (after["pictures/sub/c.png"].vector == before.vector).all()
    assert after["pictures/sub/c.png"].payload["folder"] == "sub"
    assert shelf.plan().unchanged == 2


def test_a_move_needs_the_old_file_to_be_gone_else_it_is_an_add_without_embedding(shelf):
    put(shelf.root, "a.png", unique(1))
    shelf.index()
    put(shelf.root, "copy.png", unique(1))
    run = shelf.index()
    assert told(run) == {"embed": [], "copy": ["added copy.png"]}
    points = shelf.points()
    assert sorted(points) == ["pictures/a.png", "pictures/copy.png"]
    assert (points["pictures/a.png"].vector == points["pictures/copy.png"].vector).all()


def test_a_move_from_outside_the_sources_is_an_add(shelf):
    """Points outside the named sources are nobody's business, even if their file is gone."""
    put(shelf.root, "old/a.png", unique(1))
    put(shelf.root, "new/b.png", unique(2))
    shelf.index()
    (shelf.root / "old" / "a.png").rename(shelf.root / "new" / "a.png")
    run = shelf.index(shelf.root / "new", delete_missing=True)
    assert told(run) == {"embed": [], "copy": ["added a.png"]}
    assert gone(run.plan) == []
    assert sorted(shelf.points()) == ["pictures/new/a.png", "pictures/new/b.png", "pictures/old/a.png"]


def test_one_old_file_moves_to_one_new_place_only(shelf):
    put(shelf.root, "a.png", unique(1))
    shelf.index()
    (shelf.root / "a.png").unlink()
    for name in ("x.png", "y.png", "z.png"):
        put(shelf.root, name, unique(1))
    run = shelf.index()
    assert told(run) == {"embed": [], "copy": ["added y.png", "added z.png", "moved x.png"]}
    assert sorted(shelf.points()) == ["pictures/x.png", "pictures/y.png", "pictures/z.png"]


def test_a_file_that_takes_over_the_contents_of_a_gone_one_is_updated_not_moved(shelf):
    put(shelf.root, "a.png", unique(1))
    put(shelf.root, "b.png", unique(2))
    shelf.index()
    before = shelf.points()["pictures/a.png"]
    (shelf.root / "a.png").unlink()
    put(shelf.root, "b.png", unique(1))
    run = shelf.index(delete_missing=True)
    assert told(run) == {"embed": [], "copy": ["updated b.png"]}
    assert gone(run.plan) == [before.id]
    after = shelf.points()
    assert list(after) == ["pictures/b.png"]
    assert (after["pictures/b.png"].vector == before.vector).all()


def test_a_moved_and_changed_file_is_a_new_one(shelf):
    put(shelf.root, "a.png", unique(1))
    shelf.index()
    (shelf.root / "a.png").unlink()
    put(shelf.root, "b.png", unique(2))
    plan = shelf.plan(delete_missing=True)
    assert told(plan) == {"embed": ["added b.png"], "copy": []}
    assert len(gone(plan)) == 1


def test_copies_among_new_files_are_embedded_once(shelf):
    for name in ("a.png", "b.png", "c.png"):
        put(shelf.root, name, unique(1))
    put(shelf.root, "d.png", unique(2))
    run = shelf.index()
    assert told(run) == {"embed": ["added a.png", "added d.png"], "copy": ["added b.png", "added c.png"]}
    assert_whole(run, 4)
    assert sorted(name_of(row["uri"]) for row in run.put_off) == (
        ["b.png", "c.png"] if shelf.batch > 1 else []  # they meet in flight, or find what is written
    )
    vectors = [shelf.points()[f"pictures/{name}.png"].vector for name in "abc"]
    assert (vectors[0] == vectors[1]).all()
    assert (vectors[0] == vectors[2]).all()


def test_files_of_one_size_are_not_taken_for_copies(shelf):
    """Their sizes only make them candidates; their hashes decide."""
    one, two = plain((1, 2, 3), format="BMP"), plain((3, 2, 1), format="BMP")
    assert len(one) == len(two)
    put(shelf.root, "a.bmp", one)
    put(shelf.root, "b.bmp", two)
    assert told(shelf.index()) == {"embed": ["added a.bmp", "added b.bmp"], "copy": []}
    (shelf.root / "a.bmp").unlink()
    put(shelf.root, "c.bmp", plain((2, 1, 3), format="BMP"))
    plan = shelf.plan(delete_missing=True)
    assert (told(plan), plan.deleted) == ({"embed": ["added c.bmp"], "copy": []}, 1)  # no move either


def test_two_files_may_exchange_their_contents(shelf):
    a, b = put(shelf.root, "a.png", unique(1)), put(shelf.root, "b.png", unique(2))
    shelf.index()
    before = shelf.points()
    a.rename(shelf.root / "t.png")
    b.rename(a)
    (shelf.root / "t.png").rename(b)
    os.utime(a, ns=(1, 10**18))  # a rename leaves the times; the size differs or not
    os.utime(b, ns=(1, 10**18 + 1))
    run = shelf.index()
    assert told(run) == {"embed": [], "copy": ["updated a.png", "updated b.png"]}
    after = shelf.points()
    assert (after["pictures/a.png"].vector == before["pictures/b.png"].vector).all()
    assert (after["pictures/b.png"].vector == before["pictures/a.png"].vector).all()
    assert after["pictures/a.png"].payload["content_hash"] == before["pictures/b.png"].payload["content_hash"]


def test_contents_may_go_round_in_a_ring(shelf):
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        put(shelf.root, name, unique(number))
    shelf.index()
    before = shelf.points()
    for number, name in enumerate(names):
        path = put(shelf.root, name, unique((number + 1) % 6))
        os.utime(path, ns=(1, 10**18 + number))
    run = shelf.index()
    assert told(run) == {"embed": [], "copy": [f"updated {name}" for name in names]}
    after = shelf.points()
    for number, name in enumerate(names):
        origin = before[f"pictures/{names[(number + 1) % 6]}"]
        assert (after[f"pictures/{name}"].vector == origin.vector).all()


def test_what_a_changed_file_held_before_is_not_embedded_again(shelf):
    """b takes over the old contents of a, while a gets new ones: the vector is there, and must be read in time."""
    put(shelf.root, "a.png", unique(1))
    shelf.index()
    before = shelf.points()["pictures/a.png"]
    put(shelf.root, "a.png", unique(2))
    put(shelf.root, "b.png", unique(1))
    run = shelf.index()
    assert told(run) == {"embed": ["updated a.png"], "copy": ["added b.png"]}
    after = shelf.points()
    assert (after["pictures/b.png"].vector == before.vector).all()
    assert (after["pictures/a.png"].vector != before.vector).any()


def test_what_is_gone_stays_unless_deleting_is_asked_for(shelf):
    put(shelf.root, "a.png", unique(1))
    put(shelf.root, "b.png", unique(2))
    shelf.index()
    old = shelf.root / "a.png"
    old.unlink()
    assert gone(shelf.plan()) == []
    assert shelf.plan().is_empty
    run = shelf.index(delete_missing=True)
    assert gone(run.plan) == [point_id(old.as_uri())]
    assert run.plan.deleted == 1
    assert list(shelf.points()) == ["pictures/b.png"]


def test_only_what_is_under_the_named_sources_is_deleted(shelf):
    for name in ("one/a.png", "one/sub/b.png", "two/c.png", "onemore/d.png", "one/e.jpg"):
        put(shelf.root, name, unique(len(name)) if name.endswith("png") else encoded(photo(20, 20), "JPEG"))
    put(shelf.root, "keep.png", unique(99))
    put(shelf.root, "one/keep.png", unique(98))
    shelf.index()
    for name in ("one/a.png", "one/sub/b.png", "two/c.png", "onemore/d.png", "one/e.jpg"):
        (shelf.root / name).unlink()

    def deleted(*given: Path) -> set[str]:
        ids = set(gone(shelf.plan(*given, delete_missing=True)))
        return {name for name, point in shelf.points().items() if point.id in ids}

    assert deleted(shelf.root / "one") == {
        "pictures/one/a.png",
        "pictures/one/sub/b.png",
        "pictures/one/e.jpg",
    }
    assert deleted(shelf.root / "one" / "*.png") == {"pictures/one/a.png"}
    assert deleted(shelf.root / "keep.png") == set()
    assert deleted(shelf.root / "*.png") == set()
    assert len(deleted(shelf.root / "**" / "*.png")) == 4
    assert len(deleted(shelf.root)) == 5


def test_pictures_that_came_from_elsewhere_are_never_missed(shelf):
    """Uploads and web pictures have no file below a source."""
    put(shelf.root, "a.png", unique(1))
    shelf.index()
    from search_core.points import Batch

    payload = {**shelf.points()["pictures/a.png"].payload, "uri": "https://example.com/x.png"}
    batch = Batch([point_id(payload["uri"])], np.ones((1, 8), np.float32), [payload])
    shelf.run(shelf.store.upsert("images__test__1", batch))
    (shelf.root / "a.png").unlink()
    put(shelf.root, "b.png", unique(2))
    plan = shelf.plan(delete_missing=True)
    assert gone(plan) == [point_id((shelf.root / "a.png").as_uri())]


def test_a_file_whose_folder_cannot_be_looked_into_is_not_gone(shelf):
    """A name too long for the file system stands in for a folder without permission: asking is an error."""
    put(shelf.root, "a.png", unique(1))
    shelf.index()
    from search_core.points import Batch

    uri = (shelf.root / ("x" * 300 + ".png")).as_uri()
    payload = {**shelf.points()["pictures/a.png"].payload, "uri": uri}
    shelf.run(
        shelf.store.upsert("images__test__1", Batch([point_id(uri)], np.ones((1, 8), np.float32), [payload]))
    )
    assert gone(shelf.plan(delete_missing=True)) == []


def test_broken_files_are_counted_and_not_tried_again_until_they_change(shelf):
    put(shelf.root, "a.png", unique(1))
    broken = put(shelf.root, "broken.png", b"no picture")
    assert told(shelf.index())["embed"] == ["added a.png", "added broken.png"]
    assert [failure.reason for failure in shelf.quarantine.failures()] == ["unreadable"]
    plan = shelf.plan()
    assert (plan.quarantined, plan.unchanged, plan.is_empty) == (1, 1, True)
    assert_whole(plan, 2)
    assert told(shelf.plan(retry_quarantined=True))["embed"] == ["added broken.png"]
    broken.write_bytes(unique(5))
    assert told(shelf.index())["embed"] == ["added broken.png"]
    assert shelf.plan().unchanged == 2


def test_broken_files_are_no_copies_of_each_other(shelf):
    """Whose bytes are those of a broken one waits for nothing: it is broken as well, and so said."""
    for name, data in (("a.png", b""), ("b.png", b""), ("c.png", b"no picture"), ("d.png", b"no picture")):
        put(shelf.root, name, data)
    run = shelf.index()
    assert told(run) == {"embed": [f"added {name}.png" for name in "abcd"], "copy": []}
    assert [failure.reason for failure in shelf.quarantine.failures()] == ["empty"] * 2 + ["unreadable"] * 2
    assert shelf.points() == {}


def test_an_empty_file_is_not_where_another_moved(shelf):
    put(shelf.root, "a.png", unique(1))
    shelf.index()
    (shelf.root / "a.png").unlink()
    put(shelf.root, "b.png", b"")
    plan = shelf.plan(delete_missing=True)
    assert (told(plan), plan.deleted) == ({"embed": ["added b.png"], "copy": []}, 1)


def test_a_file_that_cannot_be_read_is_left_to_the_reader(shelf, monkeypatch):
    """It vanishes between listing and hashing, so nobody knows whether it is the one that is gone."""
    put(shelf.root, "a.png", unique(1))
    shelf.index()
    (shelf.root / "a.png").rename(shelf.root / "b.png")
    read = Path.read_bytes

    def vanishing(path: Path) -> bytes:
        if path.name == "b.png":
            raise FileNotFoundError(2, "gone", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", vanishing)
    plan = shelf.plan(delete_missing=True)
    assert (told(plan), plan.deleted) == ({"embed": ["added b.png"], "copy": []}, 1)
    assert [row["reason"] for row in shelf.carry_out(plan).rows] == ["missing"]


def test_more_files_than_one_page(shelf, monkeypatch):
    monkeypatch.setattr("batch_index.plan.PAGE", 7)
    for number in range(30):
        put(shelf.root, f"{number:02}.png", unique(number))
    put(shelf.root, "again.png", unique(29))
    shelf.index()
    for number in range(0, 30, 2):
        (shelf.root / f"{number:02}.png").rename(shelf.root / f"moved-{number:02}.png")
    plan = shelf.plan()
    assert (plan.added, plan.updated, plan.moved, plan.deleted) == (0, 0, 15, 0)
    assert plan.unchanged == 16
    assert_whole(plan, 31)


def test_no_files_at_all_are_an_error(shelf):
    with pytest.raises(SourceError, match="no pictures"):
        shelf.plan()


def test_a_move_whose_origin_has_gone_meanwhile_is_an_add(shelf):
    put(shelf.root, "a.png", unique(1))
    put(shelf.root, "keep.png", unique(2))
    shelf.index()
    (shelf.root / "a.png").rename(shelf.root / "b.png")
    plan = shelf.plan()
    assert told(plan) == {"embed": [], "copy": ["moved b.png"]}
    shelf.run(shelf.store.delete("images__test__1", [tasks(plan)[0].origin]))
    assert told(shelf.carry_out(plan)) == {"embed": ["added b.png"], "copy": []}
    assert sorted(shelf.points()) == ["pictures/b.png", "pictures/keep.png"]


def test_a_move_whose_origin_has_other_contents_meanwhile_is_an_add(shelf):
    put(shelf.root, "a.png", unique(1))
    shelf.index()
    (before,) = shelf.points().values()
    (shelf.root / "a.png").rename(shelf.root / "b.png")
    plan = shelf.plan()
    assert told(plan) == {"embed": [], "copy": ["moved b.png"]}
    from search_core.points import Batch

    wrong = Batch([before.id], np.ones((1, 8), np.float32), [{**before.payload, "content_hash": "0" * 64}])
    shelf.run(shelf.store.upsert("images__test__1", wrong))
    assert told(shelf.carry_out(plan)) == {"embed": ["added b.png"], "copy": []}
    after = shelf.points()
    assert sorted(after) == ["pictures/a.png", "pictures/b.png"]
    np.testing.assert_allclose(after["pictures/b.png"].vector, before.vector, atol=1e-6)


def test_captions_are_sampled_from_all_that_is_to_be_indexed(shelf, monkeypatch):
    monkeypatch.setattr("batch_index.plan.SAMPLED_CAPTIONS", 5)
    for number in range(20):
        put(shelf.root, f"{number:02}.png", unique(number))
        put(shelf.root, f"{number:02}.txt", f"caption {number}\nanother".encode())
    put(shelf.root, "without.png", unique(50))
    plan = shelf.plan()
    assert len(set(plan.captions)) == 5
    assert set(plan.captions) <= {f"caption {number}" for number in range(20)}
    assert plan.captions != [f"caption {number}" for number in range(5)]  # not just the first ones
    shelf.carry_out(plan)
    assert shelf.plan().captions == []


def test_batched_keeps_order_and_loses_nothing():
    assert list(batched(range(7), 3)) == [(0, 1, 2), (3, 4, 5), (6,)]
    assert list(batched([], 3)) == []


def test_a_collection_that_nobody_reads_yet_is_brought_to_exactly_what_is_listed(shelf):
    """It was begun by a run that listed other files, and other sources too."""
    put(shelf.root, "a.png", unique(1))
    put(shelf.root, "gone.png", unique(2))
    other = put(shelf.root.parent / "elsewhere", "b.png", unique(3))
    shelf.index(shelf.root, other.parent)
    (shelf.root / "gone.png").unlink()
    plan = shelf.plan(exactly=True)
    assert (plan.unchanged, plan.deleted, plan.tasks) == (1, 2, 0)
    shelf.carry_out(plan)
    assert list(shelf.points()) == ["pictures/a.png"]


def test_what_is_not_listed_is_told_from_what_is(shelf):
    put(shelf.root, "a.png", unique(1))
    plan = shelf.plan()
    here, there = ((shelf.root / name).as_uri() for name in ("a.png", "b.png"))
    assert plan.unlisted([here, there]) == [there]
