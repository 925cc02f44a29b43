"""Retrieval: encoded queries against one collection, and the few writes that the API makes.

Callers name the collection in full: which one it is, they have pinned before.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from search_core.compose import Means, WeightedVector, compose, parts
from search_core.errors import CollectionGoneError, ModelMismatchError, NotFoundError
from search_core.filters import Filter
from search_core.points import Batch, Hit, Payload, Point, Vectors
from search_core.query import FEEDBACK_WEIGHT
from search_core.store import Collection, Effort, Store
from serve_app.catalogue import Catalogue, means_of
from serve_app.messages import CollectionInfo, Encoded, Found, FoundHit, Pin, TermVector, VectorQuery
from serve_app.tracing import span

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Part:
    """A term as it is composed, and how an explanation names it."""

    name: dict[str, Any]
    vector: WeightedVector


class Retrieval:
    """Answers queries from a store.

    Pictures that a query names by id (terms, liked and disliked) are left out of its hits: whoever asks knows
    them already.
    """

    def __init__(self, store: Store, alias: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._catalogue = Catalogue(store, alias, clock=clock)
        self._effort = Effort()

    def configure(self, alias: str, effort: Effort) -> None:
        """Which alias is the published collection from now on, and how hard its queries look."""
        if alias != self._catalogue.alias:
            self._catalogue.follow(alias)
        self._effort = effort

    async def pin(self, name: str | None, fresh: bool = False) -> Pin:
        """The collection of this alias or full name, the published one for None, and its model.

        `fresh` asks the store again, whatever is remembered.

        Raises:
            NotFoundError: there is no such collection; NothingPublishedError before the first index.
        """
        if fresh:
            self._catalogue.forget()
        try:
            found = await self._catalogue.resolve(name)
        except NotFoundError:  # or it went away between two looks at the store
            self._catalogue.forget()
            found = await self._catalogue.resolve(name)
        return Pin(found.name, found.spec, self._catalogue.alias if name is None else None)

    async def search(self, query: VectorQuery) -> Found:
        """The hits of one page.

        Raises:
            NotFoundError: an id is unknown. CollectionGoneError: the collection is not there any more.
            ModelMismatchError: the query was encoded by another model than the collection.
            QueryError: the terms cancel each other out.
        """

        async def answer(collection: Collection) -> Found:
            terms = await self._terms(collection, query)
            vectors, means = [term.vector for term in terms], means_of(collection)
            named = _named_ids(query)
            with span("store", collection=collection.name, limit=query.limit):
                hits = await self._page(collection.name, compose(vectors, means), query, named)
            logger.debug("found %d pictures in %s", len(hits), collection.name)
            notes = await self._explain(collection.name, terms, means, hits) if query.explain else {}
            found = [FoundHit(hit.id, hit.score, hit.payload, notes.get(hit.id)) for hit in hits]
            return Found(found, collection.name, collection.spec.name, collection.count)

        return await self._on(query.collection, answer, query.fingerprint)

    async def point(self, id: str, collection: str) -> Point:
        """One indexed picture.

        Raises:
            NotFoundError: there is none of this id. CollectionGoneError, as everywhere below.
        """

        async def answer(found: Collection) -> Point:
            return (await self._points(found.name, [id], with_vectors=False))[id]

        return await self._on(collection, answer)

    async def add(self, id: str, encoded: Encoded, payload: Payload, collection: str) -> None:
        """Writes one point."""

        async def answer(found: Collection) -> None:
            await self._store.upsert(found.name, Batch([id], encoded.vector[np.newaxis], [payload]))

        await self._on(collection, answer, encoded.fingerprint)
        self._catalogue.forget()

    async def remove(self, id: str, collection: str) -> None:
        """Deletes one point; one that is not there is no error."""

        async def answer(found: Collection) -> None:
            await self._store.delete(found.name, [id])

        await self._on(collection, answer)
        self._catalogue.forget()

    async def facets(
        self, fields: Sequence[str], where: Filter, limit: int, collection: str
    ) -> dict[str, dict[str, int]]:
        """The commonest values of each field and how many pictures have them."""

        async def answer(found: Collection) -> dict[str, dict[str, int]]:
            facet = self._store.facet
            return {field: await facet(found.name, field, where=where, limit=limit) for field in fields}

        return await self._on(collection, answer)

    async def collections(self) -> list[CollectionInfo]:
        """All collections of the store, oldest first."""
        aliases = await self._store.aliases()
        return [_info(found, aliases) for found in await self._store.collections()]

    async def collection(self, name: str) -> CollectionInfo:
        """One collection."""

        async def answer(found: Collection) -> CollectionInfo:
            return _info(found, {})

        return await self._on(name, answer)

    async def unindexed(self, name: str) -> int:
        """How many vectors of a collection are outside its HNSW index."""

        async def answer(found: Collection) -> int:
            return await self._store.unindexed(found.name)

        return await self._on(name, answer)

    async def _on(
        self, name: str, answer: Callable[[Collection], Awaitable[T]], fingerprint: str | None = None
    ) -> T:
        """Answers from the collection of this name.

        Raises:
            CollectionGoneError: it is not there any more; ModelMismatchError: it is of another model.
        """
        try:
            collection = await self._catalogue.resolve(name)
            if fingerprint is not None and collection.fingerprint != fingerprint:
                raise ModelMismatchError(
                    f"collection {name} was made by model {collection.spec.name} ({collection.fingerprint}), "
                    f"what is to go with it by another ({fingerprint}): index again with --rebuild"
                )
            return await answer(collection)
        except NotFoundError:
            self._catalogue.forget()
            try:
                await self._catalogue.resolve(name)
            except NotFoundError:
                raise CollectionGoneError(f"no collection {name!r} any more") from None
            raise

    async def _points(self, name: str, ids: Sequence[str], *, with_vectors: bool) -> dict[str, Point]:
        points = {
            point.id: point for point in await self._store.retrieve(name, ids, with_vectors=with_vectors)
        }
        missing = next((id for id in ids if id not in points), None)
        if missing is not None:
            raise NotFoundError(f"no image {missing} in collection {name}")
        return points

    async def _terms(self, collection: Collection, query: VectorQuery) -> list[_Part]:
        named = sorted(_named_ids(query))
        points = await self._points(collection.name, named, with_vectors=True)

        def image(id: str, weight: float) -> WeightedVector:
            return WeightedVector(_vector(points[id]), "image", weight)

        def term(one: TermVector) -> WeightedVector:
            if one.image_id is not None:
                return image(one.image_id, one.weight)
            assert one.vector is not None
            return WeightedVector(one.vector, one.modality, one.weight)

        found = [_Part({"term": i, "kind": one.kind}, term(one)) for i, one in enumerate(query.terms)]
        for kind, ids, weight in (
            ("like", query.like, FEEDBACK_WEIGHT),
            ("dislike", query.dislike, -FEEDBACK_WEIGHT),
        ):
            found += [
                _Part({"term": None, "kind": kind, "id": id}, image(id, weight / len(ids))) for id in ids
            ]
        return found

    async def _page(self, name: str, vector: Vectors, query: VectorQuery, named: frozenset[str]) -> list[Hit]:
        """The page's hits; with pictures to leave out, the ranking is read from its top to know their ranks."""
        ask = functools.partial(
            self._store.query,
            name,
            vector,
            where=query.where,
            min_score=query.min_score,
            effort=self._effort,
        )
        if not named:
            return await ask(limit=query.limit, offset=query.offset)
        end = query.offset + query.limit
        hits = await ask(limit=end + len(named))
        return [hit for hit in hits if hit.id not in named][query.offset : end]

    async def _explain(
        self, name: str, terms: Sequence[_Part], means: Means | None, hits: Sequence[Hit]
    ) -> dict[str, list[dict[str, Any]]]:
        """What each term adds to each hit's score; exact, since a cosine is linear in the query's parts."""
        rows = parts([term.vector for term in terms], means)
        points = await self._store.retrieve(name, [hit.id for hit in hits], with_vectors=True)
        notes = {}
        for point in points:
            shares = rows @ _vector(point)
            notes[point.id] = [
                {**term.name, "weight": round(term.vector.weight, 6), "contribution": round(float(share), 6)}
                for term, share in zip(terms, shares, strict=True)
            ]
        return notes


def _vector(point: Point) -> Vectors:
    assert point.vector is not None  # the store was asked for it
    return point.vector


def _named_ids(query: VectorQuery) -> frozenset[str]:
    terms = (term.image_id for term in query.terms if term.image_id is not None)
    return frozenset((*terms, *query.like, *query.dislike))


def _info(collection: Collection, aliases: dict[str, str]) -> CollectionInfo:
    return CollectionInfo(
        name=collection.name,
        count=collection.count,
        state=collection.state,
        model=collection.spec.name,
        fingerprint=collection.fingerprint,
        dim=collection.spec.dim,
        aliases=sorted(alias for alias, name in aliases.items() if name == collection.name),
        created=collection.metadata.get("created"),
        published=collection.metadata.get("published"),
        checked=collection.metadata.get("checked"),
        quarantined=collection.metadata.get("quarantined"),
    )
