"""The plan on disk: what the sources list, what is to be done in which shard, what is gone or has moved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from batch_index import plan_file
from batch_index.plan_file import MAX_SHARD_ROWS, MOST_VALUES, SHARD_ROWS, PlanFile, Task

TASK = Task("file:///a.png", "1:2", 10, "", '{"captions": [], "columns": {}}', "", "added")


@pytest.fixture
def plan(tmp_path):
    plan = PlanFile(tmp_path / "run" / "plan.db")
    yield plan
    plan.close()


def task(number: int, **values: object) -> Task:
    return TASK._replace(uri=f"file:///{number}.png", **values)


def fill(plan: PlanFile, *groups: tuple[str, int]) -> int:
    """Adds so many tasks of each group; gives the number of shards."""
    names = [name for name, count in groups for _ in range(count)]
    plan.add((task(number), name) for number, name in enumerate(names))
    return plan.cut()


def sizes(plan: PlanFile, shards: int) -> list[int]:
    """Rows of each shard; all of them together are the plan, in order."""
    found = [plan.shard(number) for number in range(shards)]
    rows = [row for shard in found for row, _ in shard]
    assert rows == list(range(1, plan.count() + 1))
    assert len({task.uri for shard in found for _, task in shard}) == plan.count()
    return [len(shard) for shard in found]


def listed(groups: Iterable[Sequence[str]]) -> list[str]:
    return sorted(id for group in groups for id in group)


# --- tasks ---


def test_tasks_come_back_as_they_were_with_their_rows(plan):
    given = [
        task(
            1,
            size=2**40,
            modified="2023-11-14T22:13:20.123457+00:00",
            description='{"captions": ["ä\\n日本"]}',
        ),
        task(2, expected="offset=512;size=123", action="updated", origin="an id", content_hash="f" * 64),
        task(3, action="moved"),
    ]
    plan.add((one, "") for one in given)
    assert plan.cut() == 1
    assert plan.shard(0) == [(1, given[0]), (2, given[1]), (3, given[2])]
    assert [plan.count(), plan.count("added"), plan.count("updated"), plan.count("moved")] == [3, 1, 1, 1]


def test_another_process_sees_the_finished_plan(plan):
    shards = fill(plan, ("", 3))
    other = PlanFile.open(plan.path)
    try:
        assert other.shard(0) == plan.shard(0)
        assert (other.count(), shards) == (3, 1)
    finally:
        other.close()


def test_a_new_plan_has_nothing_of_the_last_one(plan):
    fill(plan, ("", 3))
    plan.note_seen(["a"])
    plan.add_gone([("b", "hash", 1)])
    again = PlanFile(plan.path)
    try:
        assert (again.count(), again.cut(), again.gone_count(), again.unseen(["a"])) == (0, 0, 0, {"a"})
    finally:
        again.close()


# --- shards ---


def test_a_plan_without_tasks_has_no_shard(plan):
    assert plan.cut() == 0


@pytest.mark.parametrize(
    ("tasks", "shards"),
    [
        (1, [1]),
        (SHARD_ROWS, [SHARD_ROWS]),
        (SHARD_ROWS + 1, [SHARD_ROWS, 1]),
        (3 * SHARD_ROWS, [SHARD_ROWS] * 3),
    ],
)
def test_what_may_be_apart_is_cut_at_the_least_size(plan, tasks, shards):
    assert sizes(plan, fill(plan, ("", tasks))) == shards


def test_what_is_read_together_stays_together(plan):
    many = SHARD_ROWS + 200
    shards = fill(plan, ("a.tar", 100), ("b.tar", many), ("c.tar", 50), ("", 10))
    assert sizes(plan, shards) == [100 + many, 60]


def test_a_group_that_begins_where_another_ends_gets_a_shard_of_its_own(plan):
    assert sizes(plan, fill(plan, ("a.tar", SHARD_ROWS), ("b.tar", SHARD_ROWS))) == [SHARD_ROWS, SHARD_ROWS]


def test_a_group_larger_than_a_shard_may_be_is_cut_at_the_most(plan):
    shards = fill(plan, ("a.tar", 2 * MAX_SHARD_ROWS + 5), ("b.tar", SHARD_ROWS))
    assert sizes(plan, shards) == [MAX_SHARD_ROWS, MAX_SHARD_ROWS, 5 + SHARD_ROWS]


def test_several_shards_fit_into_the_bound_on_work_in_flight(plan):
    plan.add((task(number), "a.tar") for number in range(1500))
    assert sizes(plan, plan.cut(4 * SHARD_ROWS)) == [SHARD_ROWS] * 5 + [1500 - 5 * SHARD_ROWS]
    assert sizes(plan, plan.cut(4 * 700)) == [700, 700, 100]
    assert sizes(plan, plan.keep_only(range(1, 1001), 1)) == [SHARD_ROWS] * 3 + [1000 - 3 * SHARD_ROWS]


def test_shards_grow_before_there_are_too_many_but_not_without_end(plan, monkeypatch):
    monkeypatch.setattr(plan_file, "MANY_SHARDS", 2)
    assert sizes(plan, fill(plan, ("", 2000))) == [1000, 1000]
    plan.add((task(number), "") for number in range(2000, 4 * MAX_SHARD_ROWS))
    assert sizes(plan, plan.cut()) == [MAX_SHARD_ROWS] * 4


def test_cutting_again_gives_the_same(plan):
    shards = fill(plan, ("", 2 * SHARD_ROWS))
    before = sizes(plan, shards)
    assert sizes(plan, plan.cut()) == before


def test_what_is_kept_is_a_plan_of_its_own(plan):
    fill(plan, ("a.tar", 300), ("", 300))
    kept = [task for _, task in plan.shard(0) if task.uri in {"file:///7.png", "file:///299.png"}]
    shards = plan.keep_only([8, 300])
    assert [plan.shard(number) for number in range(shards)] == [list(enumerate(kept, 1))]
    assert plan.keep_only([]) == plan.count() == 0


def test_what_is_kept_stays_together(plan):
    fill(plan, ("a.tar", 400), ("b.tar", 400))
    assert sizes(plan, plan.keep_only(range(1, 701))) == [400, 300]


# --- seen and gone ---


def test_an_id_is_new_once(plan):
    assert plan.note_seen(["a", "b"]) == {"a", "b"}
    assert plan.note_seen(["b", "c", "c"]) == {"c"}
    assert plan.note_seen([]) == set()


def test_what_is_not_listed_is_unseen(plan):
    plan.note_seen(["a", "b"])
    assert plan.unseen(["a", "x", "b", "y"]) == {"x", "y"}
    assert plan.unseen([]) == set()


def test_more_ids_than_one_statement_takes(plan):
    ids = [str(number) for number in range(2 * MOST_VALUES + 3)]
    assert plan.note_seen(ids) == set(ids)
    assert plan.unseen([*ids, "x"]) == {"x"}
    plan.add_gone((id, "hash", 1) for id in ids)
    groups = list(plan.gone_ids())
    assert listed(groups) == sorted(ids)
    assert max(map(len, groups)) <= MOST_VALUES


def test_what_is_gone_is_counted_once(plan):
    plan.add_gone([("a", "hash", 1), ("b", "hash", 1)])
    plan.add_gone([("a", "hash", 1)])
    assert plan.gone_count() == 2
    assert listed(plan.gone_ids()) == ["a", "b"]


# --- moves ---


def test_only_added_files_of_a_size_that_is_gone_are_candidates(plan):
    plan.add(
        [
            (task(1, size=10), ""),
            (task(2, size=11), ""),
            (task(3, size=10, action="updated"), ""),
            (task(4, size=0), ""),
        ]
    )
    assert list(plan.perhaps_moved()) == []
    plan.add_gone([("a", "hash", 10), ("b", "other", 0)])
    assert [(row, task.uri) for row, task in plan.perhaps_moved()] == [(1, "file:///1.png")]


def test_a_point_moves_once(plan):
    fill(plan, ("", 3))
    plan.add_gone([("a", "hash", 10), ("b", "other", 10)])
    moved = [plan.moved(row, "hash") for row, _ in plan.perhaps_moved()]  # called while the candidates come
    assert moved == [True, False, False]
    assert [(task.action, task.origin, task.content_hash) for _, task in plan.shard(0)] == [
        ("moved", "a", "hash"),
        ("added", "", ""),
        ("added", "", ""),
    ]
    assert (plan.gone_count(), listed(plan.gone_ids())) == (1, ["b"])


def test_as_many_files_move_as_points_of_their_contents_are_gone(plan):
    fill(plan, ("", 3))
    plan.add_gone([("a", "hash", 10), ("b", "hash", 10)])
    assert [plan.moved(row, "hash") for row in (1, 2, 3)] == [True, True, False]
    assert sorted(task.origin for _, task in plan.shard(0)) == ["", "a", "b"]
    assert (plan.gone_count(), plan.count("moved")) == (0, 2)


def test_contents_that_are_not_gone_do_not_move(plan):
    fill(plan, ("", 1))
    plan.add_gone([("a", "hash", 10)])
    assert not plan.moved(1, "another")
    assert (plan.gone_count(), plan.count("moved")) == (1, 0)
