"""The gate before a new collection is published: is it whole, and does it find what it should?

Each check gives a verdict; one that failed keeps the collection from its readers.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search_core.errors import GateError
from search_core.points import Point
from search_core.settings import PublishSettings
from search_core.store import Collection, Store

TOP = 10
TIE = 1e-5
"""Scores that are nearer than this are equal: either point is as good an answer as the other."""


@dataclass(frozen=True)
class Verdict:
    """What a check measured, what it wanted, and whether that is enough."""

    check: str
    passed: bool
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return vars(self).copy()


Judge = Callable[[Store, Collection], Awaitable[Sequence[Verdict]]]
"""Further checks of a collection, by whoever can ask it questions."""


async def pass_gate(
    store: Store,
    name: str,
    *,
    expected: int,
    unreachable: int,
    replaced: Collection | None,
    settings: PublishSettings,
    judge: Judge | None = None,
) -> list[Verdict]:
    """Checks a complete collection: its count, the recall of its ANN index, and what `judge` finds.

    `expected` is how many pictures were indexed into it, `unreachable` how many were listed and then could not be read,
    as when a disk or a network goes away in the middle of a run. The verdicts become part of its metadata.

    Raises:
        GateError: a check failed.
    """
    collection = await store.describe(name)
    verdicts = _counts(collection.count, expected, replaced, settings.min_count_ratio)
    verdicts.append(_reach(unreachable, expected + unreachable, settings.max_unreachable_ratio))
    if settings.ann_queries:
        verdicts.append(await _ann_recall(store, name, settings))
    if judge is not None:
        verdicts += await judge(store, collection)
    await store.annotate(name, {"gate": [verdict.to_dict() for verdict in verdicts]})
    failed = [f"{verdict.check}: {verdict.detail}" for verdict in verdicts if not verdict.passed]
    if failed:
        raise GateError(
            f"collection {name} is not published, {'; '.join(failed)}: mend that and run the same command again, "
            f"or take it as it is with `image-search collections publish {name} --force`"
        )
    return verdicts


def _counts(count: int, expected: int, replaced: Collection | None, ratio: float) -> list[Verdict]:
    verdicts = [Verdict("count", count >= expected, f"{count} of {expected} indexed pictures are in it")]
    if replaced is not None:
        least = ratio * replaced.count
        detail = (
            f"{count} pictures, the one it replaces has {replaced.count} and {ratio:g} of that is asked for"
        )
        verdicts.append(Verdict("size", count >= least, detail))
    return verdicts


def _reach(unreachable: int, listed: int, ratio: float) -> Verdict:
    detail = (
        f"{unreachable} of {listed} pictures cannot be reached and {ratio:g} of them may be "
        "(--retry-quarantined tries them again)"
    )
    return Verdict("reach", unreachable <= ratio * listed, detail)


async def _ann_recall(store: Store, name: str, settings: PublishSettings) -> Verdict:
    """ANN against exact search, for vectors of the collection itself."""
    shares = []
    for point in await _sample(store, name, settings.ann_queries):
        assert point.vector is not None
        exact = await store.query(name, point.vector, limit=TOP, exact=True)
        found = await store.query(name, point.vector, limit=TOP)
        as_good = sum(hit.score >= exact[-1].score - TIE for hit in found)
        shares.append(min(as_good, len(exact)) / len(exact))
    recall = float(np.mean(shares)) if shares else 1.0
    detail = (
        f"recall at {TOP} against exact search {recall:.3f} in {len(shares)} queries, "
        f"{settings.min_ann_recall:g} is asked for"
    )
    return Verdict("ann", recall >= settings.min_ann_recall, detail)


async def _sample(store: Store, name: str, size: int) -> list[Point]:
    """Points from anywhere in the collection, the same ones each time: ids are evenly spread hashes."""
    chosen = random.Random(name)
    found: dict[str, Point] = {}
    for _ in range(size):
        after = str(uuid.UUID(int=chosen.getrandbits(128)))
        points, _ = await store.scroll(name, after=after, limit=1, fields=(), with_vectors=True)
        found.update((point.id, point) for point in points)
    return list(found.values())
