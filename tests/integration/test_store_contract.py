"""One suite for every store: embedded, embedded behind an actor, the client in memory, and a real server."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from search_core import collections
from search_core.errors import NotFoundError, NothingPublishedError, SearchError, StoreError, UsageError
from search_core.filters import parse_filter
from search_core.model import resolve_model
from search_core.points import Batch, point_id
from search_core.settings import StoreSettings
from search_core.store import Store, new_collection_name, published
from search_core.stores import open_store
from tests.fixtures.stores import SPEC, by_score, everything, payload_of, points_of, unit_vectors

NAME = "images__test__20260101T000000000"
OTHER = "images__test__20260102T000000000"
NOT_THERE = "images__test__19990101T000000000"


@pytest.fixture(scope="module")
def owner(local_ray: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Path]]:
    """An actor that holds a store, and the store's folder; one for all tests, as each start takes a second."""
    from search_core.owner import start_owner, stop_owner

    folder = tmp_path_factory.mktemp("owned") / "store"
    owned = start_owner(StoreSettings(path=folder, lock_timeout_s=0), "owner-of-the-contract")
    yield owned, folder
    stop_owner(owned)


@pytest.fixture(params=["embedded", "owned", "memory", "server"])
async def store(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[Store]:
    """Each store, empty."""
    if request.param == "owned":
        owned, folder = request.getfixturevalue("owner")
        yield owned
        for collection in await owned.collections():
            await owned.drop(collection.name)
        (folder / "aliases.json").unlink(missing_ok=True)
        return
    if request.param == "server":
        server = request.getfixturevalue("qdrant_server")
        server.clear()
        settings = server.settings(tmp_path)
    else:
        url = ":memory:" if request.param == "memory" else None
        settings = StoreSettings(path=tmp_path / "store", qdrant_url=url, lock_timeout_s=0)
    opened = open_store(settings)
    yield opened
    await opened.close()


@pytest.fixture
async def filled(store: Store) -> Store:
    """A collection of 60 points."""
    await store.create(NAME, SPEC)
    await store.upsert(NAME, points_of(60))
    return store


# --- collections ---


async def test_an_empty_store_has_nothing(store):
    assert await store.collections() == []
    assert await store.aliases() == {}
    with pytest.raises(
        NothingPublishedError, match="no collection 'images' yet: run `image-search index SOURCE` first"
    ):
        await published(store, "images")


async def test_a_new_collection_is_empty_unfinished_and_knows_its_model(store):
    await store.create(NAME, SPEC)
    collection = await store.describe(NAME)
    assert (collection.name, collection.count, collection.state) == (NAME, 0, "building")
    assert collection.spec == SPEC
    assert collection.fingerprint == SPEC.fingerprint
    collection.require(SPEC)
    assert await store.collections() == [collection]


async def test_creating_twice_changes_nothing(filled):
    await filled.annotate(NAME, {"state": "ready"})
    before = await filled.describe(NAME)
    await filled.create(NAME, SPEC)
    assert await filled.describe(NAME) == before
    assert before.count == 60


async def test_collections_are_in_order_of_their_creation(store):
    specs = [resolve_model(name) for name in ("fake/16", "fake/8", "fake/32")]
    aliases = ["zebra", "images", "apple"]
    names = [
        new_collection_name(alias, spec, 1e9 + n)
        for n, (alias, spec) in enumerate(zip(aliases, specs, strict=True))
    ]
    for name, spec in reversed(list(zip(names, specs, strict=True))):
        await store.create(name, spec)
    assert [collection.name for collection in await store.collections()] == names


async def test_annotations_are_merged(store):
    await store.create(NAME, SPEC)
    values = {"means": {"text": [0.5, -1.0], "image": []}, "ä": "日本", "n": 3, "x": 0.1, "yes": True}
    await store.annotate(NAME, values)
    await store.annotate(NAME, {"n": 4, "state": "ready"})
    collection = await store.describe(NAME)
    assert collection.state == "ready"
    assert collection.spec == SPEC
    assert {key: collection.metadata[key] for key in values} == {**values, "n": 4}


async def test_dropping_removes_points_and_all(filled):
    await filled.create(OTHER, SPEC)
    await filled.drop(NAME)
    assert [collection.name for collection in await filled.collections()] == [OTHER]
    with pytest.raises(NotFoundError):
        await filled.describe(NAME)
    await filled.create(NAME, SPEC)
    assert await filled.count(NAME) == 0


async def test_the_count_is_that_of_the_moment(filled):
    await filled.upsert(NAME, points_of(5, first=60))
    assert (await filled.describe(NAME)).count == 65
    assert [collection.count for collection in await filled.collections()] == [65]
    await filled.delete(NAME, points_of(10).ids)
    assert (await filled.describe(NAME)).count == 55


# --- aliases ---


async def test_publishing_and_rolling_back(store):
    for name in (NAME, OTHER):
        await store.create(name, SPEC)
    await collections.publish(store, "images", NAME)
    assert await store.aliases() == {"images": NAME}
    assert (await published(store, "images")).state == "ready"
    await collections.publish(store, "images", OTHER)
    await collections.publish(store, "images", OTHER)
    assert (await published(store, "images")).name == OTHER
    assert await collections.rollback(store, "images") == NAME
    assert await store.aliases() == {"images": NAME}
    with pytest.raises(NotFoundError, match="no earlier version"):
        await collections.rollback(store, "images")


async def test_aliases_do_not_disturb_each_other(store):
    for name in (NAME, OTHER):
        await store.create(name, SPEC)
    await store.publish("images", NAME)
    await store.publish("photos", NAME)
    await store.publish("photos", OTHER)
    assert await store.aliases() == {"images": NAME, "photos": OTHER}


async def test_readers_see_one_collection_or_the_other_at_any_time(store):
    for name in (NAME, OTHER):
        await store.create(name, SPEC)
    await store.publish("images", NAME)
    done = asyncio.Event()
    seen: set[str | None] = set()

    async def read() -> None:
        while not done.is_set():
            seen.add((await store.aliases()).get("images"))
            await asyncio.sleep(0)

    reading = asyncio.create_task(read())
    for _ in range(15):
        await store.publish("images", OTHER)
        await store.publish("images", NAME)
    done.set()
    await reading
    assert seen <= {NAME, OTHER}


async def test_what_was_replaced_and_dropped_cannot_come_back(store):
    for name in (NAME, OTHER):
        await store.create(name, SPEC)
        await collections.publish(store, "images", name)
    await collections.drop(store, "images", NAME)
    with pytest.raises(NotFoundError):
        await collections.rollback(store, "images")
    assert await store.aliases() == {"images": OTHER}


async def test_the_published_collection_is_not_dropped(store):
    await store.create(NAME, SPEC)
    await collections.publish(store, "images", NAME)
    with pytest.raises(UsageError, match="is published: publish another or roll back first"):
        await collections.drop(store, "images", NAME)
    with pytest.raises(NotFoundError, match="no collection 'photos' is published"):
        await collections.rollback(store, "photos")


async def test_an_unfinished_collection_is_found_by_alias_and_model(store):
    other_model = dataclasses.replace(SPEC, weights_id="other")
    names = [new_collection_name("images", spec, 1e9 + n) for n, spec in enumerate((SPEC, SPEC, other_model))]
    for name, spec in zip(names, (SPEC, SPEC, other_model), strict=True):
        await store.create(name, spec)
    await store.create(new_collection_name("photos", SPEC, 2e9), SPEC)
    found = await collections.unfinished(store, "images", SPEC)
    assert found is not None
    assert found.name == names[1]
    await store.annotate(names[1], {"state": "ready"})
    found = await collections.unfinished(store, "images", SPEC)
    assert found is not None
    assert found.name == names[0]
    await store.annotate(names[0], {"state": "ready"})
    assert await collections.unfinished(store, "images", SPEC) is None


# --- writing ---


async def test_writing_twice_changes_nothing(filled):
    before = await everything(filled, NAME, with_vectors=True)
    await filled.upsert(NAME, points_of(60))
    after = await everything(filled, NAME, with_vectors=True)
    assert [(point.id, point.payload) for point in after] == [(point.id, point.payload) for point in before]
    for a, b in zip(after, before, strict=True):
        np.testing.assert_allclose(a.vector, b.vector, atol=1e-6)


async def test_writing_again_replaces_vector_and_payload_wholly(filled):
    batch = points_of(1)
    new = unit_vectors(1, seed=5)
    await filled.upsert(NAME, Batch(batch.ids, new, [{"uri": "file:///new.png"}]))
    (point,) = await filled.retrieve(NAME, batch.ids, with_vectors=True)
    assert point.payload == {"uri": "file:///new.png"}
    np.testing.assert_allclose(point.vector, new[0], atol=1e-6)
    assert await filled.count(NAME) == 60


async def test_payloads_come_back_as_they_were(store):
    await store.create(NAME, SPEC)
    payload = {
        **payload_of(1),
        "text": "ä 日本 \u2028 \"quoted\" 'single' \\ \n\t\0",
        "int": -3,
        "zero": 0,
        "big": 2**63 - 1,
        "float": 0.1,
        "tiny": 5e-324,
        "large": 1.7976931348623157e308,
        "yes": True,
        "no": False,
        "list": [1, "a", None, [True, 2.5], {"b": None}],
        "empty list": [],
        "empty": {},
        "nested": {"a": {"b.c": [1]}, "": None},
        "captions": ["one", "two"],
    }
    id = point_id("x")
    await store.upsert(NAME, Batch([id], unit_vectors(1), [payload]))
    (point,) = await store.retrieve(NAME, [id])
    assert point.payload == payload
    assert [type(point.payload[key]) for key in ("int", "float", "yes")] == [int, float, bool]
    ((point,), _) = await store.scroll(NAME)
    assert point.payload == payload


async def test_vectors_come_back_as_float32_of_length_1(filled):
    batch = points_of(60)
    points = {point.id: point for point in await filled.retrieve(NAME, batch.ids, with_vectors=True)}
    for id, vector in zip(batch.ids, batch.vectors, strict=True):
        assert points[id].vector.dtype == np.float32
        assert points[id].vector.shape == (8,)
        np.testing.assert_allclose(points[id].vector, vector, atol=1e-6)


async def test_nothing_to_write_or_delete_is_no_trouble(filled):
    await filled.upsert(NAME, Batch([], np.zeros((0, 8), np.float32), []))
    await filled.delete(NAME, [])
    await filled.delete(NAME, [point_id("never")])
    assert await filled.count(NAME) == 60
    assert await filled.retrieve(NAME, []) == []


async def test_deleted_points_are_found_by_nothing(filled):
    batch = points_of(60)
    await filled.delete(NAME, [*batch.ids[:20], point_id("never")])
    await filled.delete(NAME, batch.ids[:20])
    assert await filled.count(NAME) == 40
    assert await filled.retrieve(NAME, batch.ids[:20]) == []
    hits = await filled.query(NAME, batch.vectors[0], limit=60)
    assert {hit.id for hit in hits} == set(batch.ids[20:])
    assert {point.id for point in await everything(filled, NAME)} == set(batch.ids[20:])


async def test_many_writers_at_once_lose_nothing(store):
    await store.create(NAME, SPEC)
    await asyncio.gather(*(store.upsert(NAME, points_of(25, first=25 * n)) for n in range(12)))
    assert await store.count(NAME) == 300
    assert len({point.id for point in await everything(store, NAME, page=70)}) == 300


# --- searching ---


@pytest.mark.parametrize("exact", [True, False])
async def test_the_nearest_come_first_with_their_cosine(filled, exact):
    batch = points_of(60)
    for vector in unit_vectors(3, seed=1):
        hits = await filled.query(NAME, vector, limit=10, exact=exact)
        wanted = by_score(batch, vector)[:10]
        assert [hit.id for hit in hits] == [id for id, _ in wanted]
        np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in wanted], atol=1e-5)
        payloads = dict(zip(batch.ids, batch.payloads, strict=True))
        assert all(hit.payload == payloads[hit.id] for hit in hits)
        assert all(hit.vector is None for hit in hits)


async def test_hits_carry_vectors_on_request(filled):
    batch = points_of(60)
    (hit,) = await filled.query(NAME, batch.vectors[7], limit=1, with_vectors=True)
    assert hit.id == batch.ids[7]
    assert hit.vector.dtype == np.float32
    np.testing.assert_allclose(hit.vector, batch.vectors[7], atol=1e-6)


@pytest.mark.parametrize("page", [7, 20, 60, 100])
async def test_pages_have_no_gap_and_no_repeat(filled, page):
    batch, vector = points_of(60), unit_vectors(1, seed=2)[0]
    found = []
    for offset in range(0, 80, page):
        found += await filled.query(NAME, vector, limit=page, offset=offset, exact=True)
    assert [hit.id for hit in found] == [id for id, _ in by_score(batch, vector)]
    assert await filled.query(NAME, vector, limit=10, offset=60) == []
    assert await filled.query(NAME, vector, limit=10, offset=5000) == []


async def test_equal_scores_are_ordered_by_id_across_pages(store):
    """Copies of one picture are common; a page must not show one of them twice and another never."""
    await store.create(NAME, SPEC)
    vectors = np.repeat(unit_vectors(2), 40, axis=0)
    batch = points_of(80, vectors=vectors)
    for start in range(0, 80, 13):  # several writes, in no order of ids
        rows = slice(start, start + 13)
        await store.upsert(NAME, Batch(batch.ids[rows], vectors[rows], batch.payloads[rows]))
    wanted = sorted(batch.ids[:40]) + sorted(batch.ids[40:])
    whole = await store.query(NAME, vectors[0], limit=80)
    assert [hit.id for hit in whole] == wanted
    found = []
    for offset in range(0, 80, 9):
        found += [hit.id for hit in await store.query(NAME, vectors[0], limit=9, offset=offset)]
    assert found == wanted


@pytest.mark.parametrize("exact", [True, False])
async def test_a_lowest_score_leaves_out_the_rest(filled, exact):
    batch, vector = points_of(60), unit_vectors(1, seed=3)[0]
    order = by_score(batch, vector)
    threshold = (order[9][1] + order[10][1]) / 2
    hits = await filled.query(NAME, vector, limit=60, min_score=threshold, exact=exact)
    assert [hit.id for hit in hits] == [id for id, _ in order[:10]]
    hits = await filled.query(NAME, vector, limit=60, min_score=threshold, offset=8, exact=exact)
    assert [hit.id for hit in hits] == [id for id, _ in order[8:10]]
    assert await filled.query(NAME, vector, limit=60, min_score=0.9999) == []
    assert len(await filled.query(NAME, vector, limit=60, min_score=-1.0)) == 60


FILTERS = {
    "text": ({"folder": "cats"}, lambda p: p["folder"] == "cats"),
    "texts": ({"folder": ["cats", "birds", "never"]}, lambda p: p["folder"] in ("cats", "birds")),
    "whole number": ({"width": 120}, lambda p: p["width"] == 120),
    "whole numbers": ({"width": [101, 150, 9]}, lambda p: p["width"] in (101, 150)),
    "yes or no": ({"even": True}, lambda p: p.get("even") is True),
    "no": ({"even": False}, lambda p: p.get("even") is False),
    "from": ({"width": {"gte": 150}}, lambda p: p["width"] >= 150),
    "above": ({"width": {"gt": 150}}, lambda p: p["width"] > 150),
    "between": ({"width": {"gte": 110, "lt": 120.5}}, lambda p: 110 <= p["width"] < 120.5),
    "up to": ({"width": {"lte": 103}}, lambda p: p["width"] <= 103),
    "below": ({"ratio": {"lt": 0.25}}, lambda p: p["ratio"] < 0.25),
    "all": (
        {"folder": "cats", "format": "png", "width": {"gt": 110}},
        lambda p: (p["folder"], p["format"]) == ("cats", "png") and p["width"] > 110,
    ),
    "inner field": ({"exif.iso": 400}, lambda p: p["exif"]["iso"] == 400),
    "one of many": ({"tags": "t3"}, lambda p: "t3" in p["tags"]),
    "odd name": ({"camera model": "x100"}, lambda p: p["camera model"] == "x100"),
    "nothing": ({"folder": "never"}, lambda p: False),
    "field that is not there": ({"nowhere": 3}, lambda p: False),
    "text for a number": ({"width": "wide"}, lambda p: False),
    "number for a text": ({"folder": 3}, lambda p: False),
    "empty": ({}, lambda p: True),
}


@pytest.fixture
async def described(store: Store) -> tuple[Store, Batch]:
    """A collection whose payloads have fields of every kind."""
    batch = points_of(60)
    for number, payload in enumerate(batch.payloads):
        payload |= {
            "ratio": number / 60,
            "exif": {"iso": 100 * (number % 5)},
            "tags": [f"t{number % 7}", f"t{number % 4}"],
            "camera model": ("x100", "f2")[number % 2],
        }
        if number % 3:
            payload["even"] = number % 2 == 0
    await store.create(NAME, SPEC)
    await store.upsert(NAME, batch)
    return store, batch


async def test_filters_of_every_kind_hold_in_every_call(described):
    store, batch = described
    vector = unit_vectors(1, seed=4)[0]
    for label, (raw, holds) in FILTERS.items():
        where = parse_filter(raw)
        right = [row for row, payload in enumerate(batch.payloads) if holds(payload)]
        ids = {batch.ids[row] for row in right}
        hits = await store.query(NAME, vector, limit=60, where=where)
        assert [hit.id for hit in hits] == [id for id, _ in by_score(batch, vector, right)], label
        assert await store.count(NAME, where) == len(ids), label
        assert {point.id for point in await everything(store, NAME, page=11, where=where)} == ids, label
        assert sum((await store.facet(NAME, "orientation", where=where)).values()) == len(ids), label


async def test_a_filtered_search_still_pages(described):
    store, batch = described
    vector, where = unit_vectors(1, seed=4)[0], parse_filter({"format": "png"})
    right = [row for row, payload in enumerate(batch.payloads) if payload["format"] == "png"]
    found = []
    for offset in range(0, 30, 8):
        found += await store.query(NAME, vector, limit=8, offset=offset, where=where)
    assert [hit.id for hit in found] == [id for id, _ in by_score(batch, vector, right)]


# --- reading ---


async def test_points_are_retrieved_by_id(filled):
    batch = points_of(60)
    points = await filled.retrieve(NAME, [batch.ids[3], point_id("never"), batch.ids[1]])
    assert {point.id: point.payload for point in points} == {batch.ids[n]: batch.payloads[n] for n in (3, 1)}
    assert all(point.vector is None for point in points)


@pytest.mark.parametrize("page", [1, 7, 30, 60, 61])
async def test_scrolling_gives_every_point_once_in_order_of_id(filled, page):
    points = await everything(filled, NAME, page=page)
    assert [point.id for point in points] == sorted(points_of(60).ids)
    assert all(point.vector is None for point in points)


async def test_scrolling_gives_the_fields_and_vectors_that_are_asked_for(filled):
    batch = points_of(60)
    vectors = dict(zip(batch.ids, batch.vectors, strict=True))
    for point in await everything(filled, NAME, fields=("uri", "bytes", "nowhere"), with_vectors=True):
        assert set(point.payload) == {"uri", "bytes"}
        np.testing.assert_allclose(point.vector, vectors[point.id], atol=1e-6)
    points, after = await filled.scroll(NAME, limit=5, fields=())
    assert [point.payload for point in points] == [{}] * 5
    assert after is not None


async def test_an_empty_collection_scrolls_to_its_end(store):
    await store.create(NAME, SPEC)
    assert await store.scroll(NAME) == ([], None)
    assert await store.query(NAME, unit_vectors(1)[0], limit=5) == []
    assert await store.facet(NAME, "folder") == {}
    assert await store.unindexed(NAME) == 0


async def test_facets_count_values_commonest_first(filled):
    assert list((await filled.facet(NAME, "orientation")).items()) == [
        ("landscape", 30),
        ("portrait", 15),
        ("square", 15),
    ]
    assert await filled.facet(NAME, "folder", where=parse_filter({"width": {"lt": 104}})) == {
        "cats": 2,
        "dogs": 1,
        "birds": 1,
    }
    assert list(await filled.facet(NAME, "orientation", limit=1)) == ["landscape"]
    assert len(await filled.facet(NAME, "file_name", limit=25)) == 25


async def test_optimizing_changes_no_answer(filled):
    batch = points_of(60)
    before = await filled.query(NAME, batch.vectors[0], limit=60)
    await filled.optimize(NAME)
    after = await filled.query(NAME, batch.vectors[0], limit=60)
    assert [hit.id for hit in after] == [hit.id for hit in before]
    np.testing.assert_allclose([hit.score for hit in after], [hit.score for hit in before], atol=1e-5)
    assert 0 <= await filled.unindexed(NAME) <= 60
    await filled.upsert(NAME, points_of(5, first=60))
    await filled.delete(NAME, batch.ids[:5])
    assert await filled.count(NAME) == 60
    await filled.optimize(NAME)
    assert {point.id for point in await everything(filled, NAME)} == set(points_of(5, first=60).ids) | set(
        batch.ids[5:]
    )


# --- errors ---

CALLS = {
    "describe": lambda store: store.describe(NOT_THERE),
    "annotate": lambda store: store.annotate(NOT_THERE, {"a": 1}),
    "drop": lambda store: store.drop(NOT_THERE),
    "publish": lambda store: store.publish("images", NOT_THERE),
    "upsert": lambda store: store.upsert(NOT_THERE, points_of(1)),
    "delete": lambda store: store.delete(NOT_THERE, points_of(1).ids),
    "query": lambda store: store.query(NOT_THERE, unit_vectors(1)[0], limit=3),
    "retrieve": lambda store: store.retrieve(NOT_THERE, points_of(1).ids),
    "scroll": lambda store: store.scroll(NOT_THERE),
    "count": lambda store: store.count(NOT_THERE),
    "facet": lambda store: store.facet(NOT_THERE, "folder"),
    "unindexed": lambda store: store.unindexed(NOT_THERE),
    "optimize": lambda store: store.optimize(NOT_THERE),
}


async def test_every_call_says_that_a_collection_is_not_there(store):
    await store.create(NAME, SPEC)
    for label, call in CALLS.items():
        with pytest.raises(NotFoundError) as caught:
            await call(store)
        assert NOT_THERE in str(caught.value), label
        assert "\n" not in str(caught.value), label
        assert caught.type is NotFoundError, label
    assert await store.aliases() == {}


async def test_a_field_without_facets_is_named_with_those_that_have_them(filled):
    with pytest.raises(
        NotFoundError, match=r"no facet 'caption': the collection has folder, format, orientation"
    ):
        await filled.facet(NAME, "caption")


async def test_vectors_of_another_size_are_refused_in_one_line(filled):
    batch = points_of(3, first=500)
    wrong = Batch(batch.ids, unit_vectors(3, dim=16), batch.payloads)
    for call in (lambda: filled.upsert(NAME, wrong), lambda: filled.query(NAME, wrong.vectors[0], limit=3)):
        with pytest.raises(SearchError) as caught:
            await call()
        assert isinstance(caught.value, StoreError)
        assert "\n" not in str(caught.value)
    assert await filled.count(NAME) == 60


async def test_a_refused_batch_leaves_nothing_of_itself(filled):
    batch = points_of(3, first=500)
    with pytest.raises(StoreError):
        await filled.upsert(NAME, Batch([*batch.ids[:2], "no id"], batch.vectors, batch.payloads))
    assert await filled.retrieve(NAME, batch.ids[:2]) == []


async def test_a_publish_that_is_interrupted_leaves_the_collection_to_the_next_run(store, monkeypatch):
    await store.create(NAME, SPEC)

    async def refused(alias: str, name: str) -> None:
        raise StoreError("no")

    with monkeypatch.context() as patched:
        patched.setattr(store, "publish", refused, raising=False)
        with pytest.raises(StoreError):
            await collections.publish(store, "images", NAME)
    found = await collections.unfinished(store, "images", SPEC)
    assert found is not None
    assert found.name == NAME
    await store.publish("images", NAME)  # interrupted after this
    await collections.publish(store, "images", NAME)
    assert (await store.describe(NAME)).state == "ready"
    assert await collections.unfinished(store, "images", SPEC) is None
    await store.create(OTHER, SPEC)
    await store.annotate(OTHER, {"replaced": NAME})
    await store.publish("images", OTHER)  # interrupted again, and rolled back
    assert await collections.rollback(store, "images") == NAME
    assert (await store.describe(OTHER)).state == "ready"
