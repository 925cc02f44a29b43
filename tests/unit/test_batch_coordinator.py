"""The coordinator of a run: work in flight is bounded, nothing is done twice, and known bytes are found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from batch_index.coordinator import CRASHES, MOST_TIMES, Care, Coordinator, InFlight, Known, StageCount
from batch_index.plan_file import SHARD_ROWS, PlanFile, Task
from search_core.edge import EdgeStore
from search_core.errors import RunError
from search_core.model import resolve_model
from search_core.payload import image_payload
from search_core.points import Batch, Vectors, point_id
from search_core.settings import StoreSettings
from search_core.store import Store

SPEC = resolve_model("fake/8")
ALL = range(1, SHARD_ROWS + 1)
"""The rows of shard 0."""
A, B, C = (point_id(f"file:///{name}.png") for name in "abc")


@pytest.fixture
async def store(tmp_path) -> AsyncIterator[EdgeStore]:
    """With an empty collection `c`."""
    store = EdgeStore(StoreSettings(path=tmp_path / "store"))
    await store.create("c", SPEC)
    yield store
    await store.close()


@pytest.fixture
def make(tmp_path, store) -> Any:
    """Makes the coordinator of a plan of so many full shards."""
    plan = PlanFile(tmp_path / "plan.db")
    made: list[Coordinator] = []

    def make(
        shards: int = 3,
        *,
        max_in_flight: int = SHARD_ROWS,
        fresh: bool = False,
        open_store: Callable[[], Store] | None = None,
    ) -> Coordinator:
        rows = shards * SHARD_ROWS
        plan.add((Task(f"file:///{row}.png", "", 1, "", "{}", "", "added"), "") for row in range(rows))
        assert plan.cut() == shards
        made.append(
            Coordinator(
                plan.path, open_store or (lambda: store), "c", fresh=fresh, max_in_flight=max_in_flight
            )
        )
        return made[-1]

    yield make
    for one in made:
        one._plan.close()
    plan.close()


def axis(number: int) -> Vectors:
    return np.eye(8, dtype=np.float32)[number]


async def write(store: Store, id: str, digest: str, vector: Vectors, width: int = 3) -> None:
    payload = image_payload(
        f"file:///{id}.png", width=width, height=2, format="png", size_bytes=99, content_hash=digest,
        source_version="", modified=None, captions=(), extra={},
    )  # fmt: skip
    await store.upsert("c", Batch([id], vector[None], [payload]))


async def settle() -> None:
    """Runs whatever can run; nothing here waits for anything outside of this event loop."""
    for _ in range(20):
        await asyncio.sleep(0)


async def in_flight(coordinator: Coordinator) -> int:
    return (await coordinator.progress()).in_flight


def done(answer: list[tuple[int, Task, bool]]) -> list[int]:
    return [row for row, _, is_done in answer if is_done]


# --- work in flight ---


async def test_a_shard_waits_until_enough_is_acknowledged(make):
    coordinator = make(max_in_flight=SHARD_ROWS + 100)
    first = await coordinator.shard(0)
    assert [row for row, _, _ in first] == list(ALL)
    assert done(first) == []
    second = asyncio.create_task(coordinator.shard(1))
    await settle()
    assert not second.done()
    await coordinator.acknowledge(0, ALL[:-101], [])
    await settle()
    assert not second.done()  # one row short
    await coordinator.acknowledge(0, [ALL[-101]], [])
    await settle()
    assert second.done()
    assert [row for row, _, _ in await second] == [row + SHARD_ROWS for row in ALL]
    assert await in_flight(coordinator) == SHARD_ROWS + 100


async def test_as_many_shards_are_handed_out_as_there_is_room_for(make):
    coordinator = make(5, max_in_flight=3 * SHARD_ROWS)
    waiting = [asyncio.create_task(coordinator.shard(number)) for number in range(5)]
    await settle()
    assert [task.done() for task in waiting] == [True, True, True, False, False]
    assert await in_flight(coordinator) == 3 * SHARD_ROWS
    await coordinator.acknowledge(1, [row for row, _, _ in waiting[1].result()], [])
    await settle()
    assert [task.done() for task in waiting] == [True, True, True, True, False]
    await coordinator.acknowledge(3, [row for row, _, _ in waiting[3].result()], [])
    await settle()
    assert waiting[4].done()
    assert await in_flight(coordinator) == 3 * SHARD_ROWS


async def test_a_shard_larger_than_the_bound_goes_alone(make):
    coordinator = make(max_in_flight=1)
    assert len(await coordinator.shard(0)) == SHARD_ROWS
    second = asyncio.create_task(coordinator.shard(1))
    await coordinator.acknowledge(0, ALL[:-1], [])
    await settle()
    assert not second.done()
    await coordinator.acknowledge(0, ALL[-1:], [])
    assert len(await second) == SHARD_ROWS


async def test_what_is_acknowledged_twice_counts_once(make):
    coordinator = make()
    await coordinator.shard(0)
    for _ in range(2):
        await coordinator.acknowledge(0, ALL[:10], [])
    assert await in_flight(coordinator) == SHARD_ROWS - 10
    for _ in range(2):
        await coordinator.acknowledge(0, ALL, [])
    assert await in_flight(coordinator) == 0


async def test_a_shard_that_was_not_handed_out_cannot_be_acknowledged(make):
    coordinator = make()
    await coordinator.acknowledge(2, ALL, [1])
    assert await in_flight(coordinator) == 0
    assert done(await coordinator.shard(2)) == []
    assert await coordinator.second_pass() == 0


# --- repeats ---


async def test_a_repeated_shard_has_its_acknowledged_rows_marked(make):
    coordinator = make()
    first = await coordinator.shard(0)
    await coordinator.acknowledge(0, [3, 5], [])
    again = await coordinator.shard(0)  # without waiting, though there is no room for more
    assert [(row, task) for row, task, _ in again] == [(row, task) for row, task, _ in first]
    assert done(again) == [3, 5]
    assert await in_flight(coordinator) == SHARD_ROWS - 2


async def test_a_repeated_shard_that_is_complete_is_all_done_and_takes_no_room(make):
    coordinator = make()
    await coordinator.shard(0)
    await coordinator.acknowledge(0, ALL, [])
    await coordinator.shard(1)
    assert done(await coordinator.shard(0)) == list(ALL)
    assert await in_flight(coordinator) == SHARD_ROWS
    await coordinator.acknowledge(0, ALL, [])
    assert await in_flight(coordinator) == SHARD_ROWS


async def test_a_shard_that_is_asked_for_twice_while_it_waits_takes_room_once(make):
    """Ray repeats a task whose worker died while it was waiting; the dead one's call still waits."""
    coordinator = make(max_in_flight=2 * SHARD_ROWS + 1)
    await coordinator.shard(0)
    await coordinator.shard(1)
    waiting = [asyncio.create_task(coordinator.shard(2)) for _ in range(2)]
    await settle()
    assert [task.done() for task in waiting] == [False, False]
    await coordinator.acknowledge(0, ALL, [])
    await coordinator.acknowledge(1, [row + SHARD_ROWS for row in ALL], [])
    answers = await asyncio.gather(*waiting)
    assert answers[0] == answers[1]
    assert await in_flight(coordinator) == SHARD_ROWS
    await coordinator.acknowledge(2, [row for row, _, _ in answers[0]], [])
    assert await in_flight(coordinator) == 0


# --- claims ---


@pytest.mark.parametrize("fresh", [True, False])
async def test_bytes_are_new_to_the_first_who_asks_and_in_flight_to_others(make, fresh):
    coordinator = make(fresh=fresh)
    assert await coordinator.claim([A, B], ["one", "two"]) == [None, None]
    assert await coordinator.claim([C, C], ["one", "three"]) == [InFlight(), None]
    assert await coordinator.claim([A, B], ["one", "two"]) == [None, None]  # repeated: as the first time


async def test_equal_bytes_within_one_call(make):
    assert await make().claim([A, B, C], ["one", "two", "one"]) == [None, None, InFlight()]


async def test_bytes_in_flight_are_known_once_they_are_written(make, store):
    for_fresh = make(fresh=True)
    assert await for_fresh.claim([A], ["one"]) == [None]
    assert await for_fresh.claim([B], ["one"]) == [InFlight()]
    await write(store, A, "one", axis(3))
    (known,) = await for_fresh.claim([B], ["one"])
    assert isinstance(known, Known)
    np.testing.assert_array_equal(known.vector, axis(3))


async def test_bytes_that_the_collection_has_are_known(make, store):
    await write(store, A, "one", axis(1), width=7)
    known, new = await make().claim([B, C], ["one", "two"])
    assert new is None
    assert isinstance(known, Known)
    np.testing.assert_array_equal(known.vector, axis(1))
    assert (known.width, known.height, known.format, known.bytes) == (7, 2, "png", 99)


async def test_bytes_that_many_points_have_hide_no_others(make, store):
    for number in range(7):
        await write(store, point_id(str(number)), "one", axis(1))
    await write(store, A, "two", axis(2))
    found = await make().claim([B, C], ["one", "two"])
    assert [int(np.argmax(known.vector)) for known in found if isinstance(known, Known)] == [1, 2]


async def test_a_collection_that_was_empty_is_not_asked_for_what_comes_first(make):
    def refuse() -> Store:
        raise AssertionError("there is nothing to be found")

    coordinator = make(fresh=True, open_store=refuse)
    assert await coordinator.claim([A, B], ["one", "two"]) == [None, None]
    with pytest.raises(AssertionError, match="nothing"):
        await coordinator.claim([C], ["one"])  # it may be written by now


async def test_bytes_that_this_run_replaced_are_still_known(make, store):
    """A picture has new contents; another, that comes later, has those that it had."""
    await write(store, A, "old", axis(1), width=7)
    coordinator = make()
    await coordinator.retire([A, B])  # there is no B
    await write(store, A, "new", axis(2))
    old, new = await coordinator.claim([B, C], ["old", "new"])
    assert isinstance(old, Known)
    assert isinstance(new, Known)
    np.testing.assert_array_equal(old.vector, axis(1))
    np.testing.assert_array_equal(new.vector, axis(2))
    assert (old.width, old.height, old.format, old.bytes) == (7, 2, "png", 99)


async def test_retiring_again_after_a_repeat_keeps_what_was_there_first(make, store):
    await write(store, A, "old", axis(1))
    coordinator = make()
    await coordinator.retire([A])
    await write(store, A, "new", axis(2))
    await coordinator.retire([A])
    (old,) = await coordinator.claim([B], ["old"])
    assert isinstance(old, Known)
    np.testing.assert_array_equal(old.vector, axis(1))


async def test_what_was_replaced_without_being_retired_is_not_known(make, store):
    await write(store, A, "old", axis(1))
    coordinator = make()
    await write(store, A, "new", axis(2))
    assert await coordinator.claim([B], ["old"]) == [None]


async def test_the_origin_that_a_plan_names_is_known_while_it_has_those_contents(make, store):
    await write(store, A, "one", axis(1), width=7)
    coordinator = make()
    found = await coordinator.known_as([A, A, B, A], ["one", "two", "one", "one"])
    assert [known is not None for known in found] == [True, False, False, True]
    assert found[0] is not None
    np.testing.assert_array_equal(found[0].vector, axis(1))
    assert (found[0].width, found[0].height, found[0].format, found[0].bytes) == (7, 2, "png", 99)


# --- the second pass ---


async def test_the_second_pass_has_what_was_put_off(make):
    coordinator = make(2, max_in_flight=2 * SHARD_ROWS)
    first, second = await coordinator.shard(0), await coordinator.shard(1)
    await coordinator.acknowledge(0, ALL, [3, 7])
    await coordinator.acknowledge(1, [row + SHARD_ROWS for row in ALL], [SHARD_ROWS + 1])
    assert await coordinator.second_pass() == 1
    again = await coordinator.shard(0)
    assert done(again) == []
    assert [row for row, _, _ in again] == [1, 2, 3]
    assert [task for _, task, _ in again] == [first[2][1], first[6][1], second[0][1]]
    assert await in_flight(coordinator) == 3
    await coordinator.acknowledge(0, [1, 2, 3], [])
    assert await coordinator.second_pass() == 0


async def test_without_anything_put_off_there_is_no_second_pass(make):
    coordinator = make()
    await coordinator.shard(0)
    await coordinator.acknowledge(0, ALL, [])
    assert await coordinator.second_pass() == 0


async def test_nobody_waits_for_another_in_the_second_pass(make, store):
    """Whoever was waited for may have turned out to be broken."""
    coordinator = make(fresh=True)
    assert await coordinator.claim([A, B], ["one", "broken"]) == [None, None]
    assert await coordinator.claim([C, C], ["one", "broken"]) == [InFlight(), InFlight()]
    await write(store, A, "one", axis(1))
    await coordinator.second_pass()
    known, new = await coordinator.claim([C, C], ["one", "broken"])
    assert isinstance(known, Known)
    assert new is None


# --- counts ---


async def test_what_the_stages_did_adds_up(make):
    coordinator = make()
    await coordinator.count("embed", 10, 0.5)
    await coordinator.count("embed", 5, 0.25)
    await coordinator.count("write", 1, 2.0)
    assert (await coordinator.progress()).stages == {
        "embed": StageCount(15, 0.75),
        "write": StageCount(1, 2.0),
    }


async def test_a_shard_that_ends_its_processes_is_decoded_with_care_until_the_picture_is_found(make):
    coordinator = make()
    for _ in range(CRASHES):
        await coordinator.shard(0)
        assert await coordinator.care(0) == Care()
    await coordinator.shard(0)
    assert await coordinator.care(0) == Care(alone=True)
    await coordinator.begin(0, 3)
    await coordinator.begin(0, 4)
    await coordinator.shard(0)  # its process has ended over row 4
    assert await coordinator.care(0) == Care(alone=True, crashed=frozenset({4}))
    await coordinator.begin(0, 5)
    await coordinator.begin(0, None)
    await coordinator.shard(0)
    assert (await coordinator.care(0)).crashed == {4}
    await coordinator.acknowledge(0, ALL, [])
    assert await coordinator.care(0) == Care()


async def test_a_shard_whose_processes_end_for_another_reason_is_given_up(make):
    coordinator = make()
    for _ in range(MOST_TIMES):
        await coordinator.shard(0)
    with pytest.raises(RunError, match="has ended again and again"):
        await coordinator.shard(0)


async def test_encoders_whose_processes_end_again_and_again_are_given_up(make):
    coordinator = make()
    await coordinator.shard(0)
    await coordinator.start_again()
    await coordinator.acknowledge(0, ALL, [])  # it goes on, and the count begins anew
    for _ in range(MOST_TIMES):
        await coordinator.start_again()
    with pytest.raises(RunError, match="has ended again and again"):
        await coordinator.start_again()
