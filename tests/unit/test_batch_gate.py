"""The gate before publishing: what passes, what does not, and what is said about it."""

import numpy as np
import pytest

from batch_index.gate import pass_gate
from search_core.edge import EdgeStore
from search_core.errors import GateError
from search_core.model import resolve_model
from search_core.points import Batch, point_id
from search_core.settings import PublishSettings, StoreSettings
from search_core.store import Collection

SPEC = resolve_model("fake")
NAME = f"images__{SPEC.fingerprint}__20260101T000000000"


@pytest.fixture
async def store(tmp_path):
    """A collection of 40 pictures, half of them with one and the same vector."""
    store = EdgeStore(StoreSettings(path=tmp_path))
    await store.create(NAME, SPEC)
    vectors = np.random.default_rng(7).normal(size=(40, SPEC.dim)).astype(np.float32)
    vectors[20:] = vectors[0]
    ids = [point_id(f"file:///{number}.png") for number in range(40)]
    payloads = [{"uri": f"file:///{number}.png"} for number in range(40)]
    await store.upsert(NAME, Batch(ids, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), payloads))
    yield store
    await store.close()


async def check(store, expected=40, replaced=None, judge=None, unreachable=0, **settings):
    before = Collection("before", replaced) if replaced is not None else None
    return await pass_gate(
        store,
        NAME,
        expected=expected,
        unreachable=unreachable,
        replaced=before,
        settings=PublishSettings(**settings),
        judge=judge,
    )


async def test_a_whole_collection_passes_and_its_verdicts_are_kept(store):
    verdicts = await check(store, replaced=44)
    assert [(verdict.check, verdict.passed) for verdict in verdicts] == [
        ("count", True),
        ("size", True),
        ("reach", True),
        ("ann", True),
    ]
    assert (await store.describe(NAME)).metadata["gate"] == [verdict.to_dict() for verdict in verdicts]


async def test_missing_pictures_and_a_collection_that_shrank_are_refused(store):
    with pytest.raises(GateError, match=r"count: 40 of 41 indexed pictures are in it: mend .* --force`$"):
        await check(store, expected=41)
    with pytest.raises(GateError, match=r"size: 40 pictures, the one it replaces has 45 and 0\.9 of that"):
        await check(store, replaced=45)
    kept = (await store.describe(NAME)).metadata["gate"]
    assert [verdict["check"] for verdict in kept if not verdict["passed"]] == ["size"]
    assert await check(store, replaced=45, min_count_ratio=0.5)
    assert all(verdict["passed"] for verdict in (await store.describe(NAME)).metadata["gate"])


async def test_a_source_that_went_away_is_no_small_collection(store):
    with pytest.raises(
        GateError, match=r"reach: 41 of 81 pictures cannot be reached and 0\.5 of them may be"
    ):
        await check(store, unreachable=41)
    await check(store, unreachable=40)
    await check(store, unreachable=41, max_unreachable_ratio=0.6)


async def test_a_search_that_misses_the_nearest_is_refused(store, monkeypatch):
    real = store.query

    async def blind(name, vector, *, exact=False, limit, **options):
        """ANN that never finds the best half."""
        hits = await real(name, vector, limit=limit if exact else 2 * limit, exact=exact, **options)
        return hits if exact else hits[limit // 2 : limit // 2 + limit]

    monkeypatch.setattr(store, "query", blind)
    with pytest.raises(
        GateError, match=r"ann: recall at 10 against exact search 0\.\d+ in \d+ queries, 0\.95"
    ):
        await check(store)
    verdicts = await check(store, ann_queries=0)
    assert [verdict.check for verdict in verdicts] == ["count", "reach"]


async def test_equal_scores_are_equally_right(store, monkeypatch):
    real = store.query

    async def other_twins(name, vector, *, exact=False, limit, **options):
        """ANN that gives other points of the same score."""
        hits = await real(name, vector, limit=40, exact=exact, **options)
        best = [hit for hit in hits if hit.score >= hits[0].score - 1e-6]
        return hits[:limit] if exact or len(best) < 20 else best[-limit:]

    monkeypatch.setattr(store, "query", other_twins)
    assert all(verdict.passed for verdict in await check(store))
