"""A Qdrant server as the store, over gRPC; or the client's in-memory imitation of one, for tests.

A new collection is made with its indexing switched off (threshold 0), which loads fastest; `optimize` switches it on,
and from then on the server keeps the HNSW index up by itself. So the collection itself tells whether that is done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from qdrant_client import AsyncQdrantClient, models

from search_core.errors import NotFoundError, StoreError
from search_core.filters import AnyOf, Condition, Filter
from search_core.model import ModelSpec
from search_core.pages import ordered_page
from search_core.points import KEYWORD_FIELDS, Batch, Hit, Payload, Point, Vectors
from search_core.qdrant_config import creation, payload_indexes, search_params
from search_core.qdrant_nodes import QdrantNodes
from search_core.qdrant_points import upsert_request
from search_core.settings import StoreSettings
from search_core.store import USUAL, Collection, Effort, new_metadata

INDEXING_THRESHOLD_KB = 10_000
"""Segments with fewer kilobytes of vectors are scanned: no graph is faster there."""
BYTES_A_NUMBER = 4
OPTIMIZE_POLL_S = 0.25
SETTLE_S = 15.0
"""How long a server may say that it is done while vectors are still outside: each node hears of a change by itself."""


class QdrantStore:
    """`search_core.store.Store` on a Qdrant server. One event loop each, as the gRPC channel is bound to it."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings.qdrant
        self._timeout_s = settings.timeout_s
        self._nodes = QdrantNodes(settings)
        self._call = self._nodes.call

    async def collections(self) -> list[Collection]:
        """All collections that this project made, oldest first."""
        answer = await self._call(lambda client: client.get_collections())
        found = [await self.describe(item.name) for item in answer.collections]
        ours = [collection for collection in found if "fingerprint" in collection.metadata]
        return sorted(ours, key=lambda collection: collection.name.rsplit("__", 1)[-1])

    async def describe(self, name: str) -> Collection:
        """One collection as it is now."""
        info = await self._info(name)
        return Collection(name, await self.count(name), dict(info.config.metadata or {}))

    async def create(self, name: str, spec: ModelSpec, *, bulk: bool = False) -> None:
        """Makes an empty collection, stamped with the model, or completes one whose making was interrupted.

        Payload indexes are there from the start even if `bulk`: the server builds HNSW with links for their filters.
        """
        options = creation(self._settings, spec.dim)
        metadata = new_metadata(spec)

        async def make(client: AsyncQdrantClient) -> None:
            if not await client.collection_exists(name):  # asked each time: a first try may have been cut off
                await client.create_collection(name, metadata=metadata, **options)

        await self._call(make)
        if self._nodes.in_memory:
            return  # payload indexes have no effect there, and warn
        for key, kind in payload_indexes(self._settings).items():
            await self._index(name, key, kind)

    async def annotate(self, name: str, values: Mapping[str, Any]) -> None:
        """Merges JSON values into the collection's metadata."""
        info = await self._info(name)
        merged = {**(info.config.metadata or {}), **values}
        await self._call(lambda client: client.update_collection(name, metadata=merged))

    async def drop(self, name: str) -> None:
        """Deletes a collection and its points."""
        await self._info(name)
        await self._call(lambda client: client.delete_collection(name))

    async def aliases(self) -> dict[str, str]:
        """Each alias and the collection that it names."""
        answer = await self._call(lambda client: client.get_aliases())
        return {alias.alias_name: alias.collection_name for alias in answer.aliases}

    async def publish(self, alias: str, name: str) -> None:
        """Moves (or makes) an alias in one step."""
        operations: list[models.AliasOperations] = []
        if alias in await self.aliases():
            operations.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
        create = models.CreateAlias(collection_name=name, alias_name=alias)
        operations.append(models.CreateAliasOperation(create_alias=create))
        await self._call(lambda client: client.update_collection_aliases(operations))

    async def upsert(self, name: str, batch: Batch) -> None:
        """Writes points and waits until they are applied."""
        if not len(batch.ids):
            return
        if self._nodes.in_memory:
            points = models.Batch(
                ids=list(batch.ids),
                vectors=batch.vectors.tolist(),
                payloads=[dict(one) for one in batch.payloads],
            )
            await self._call(lambda client: client.upsert(name, points))
            return
        request = upsert_request(name, batch)
        await self._call(lambda client: client.grpc_points.Upsert(request, timeout=self._timeout_s))

    async def delete(self, name: str, ids: Sequence[str]) -> None:
        """Deletes points; ids that are not there are no error."""
        if ids:
            points = models.PointIdsList(points=list(ids))
            await self._call(lambda client: client.delete(name, points, wait=True))

    async def query(
        self,
        name: str,
        vector: Vectors,
        *,
        limit: int,
        offset: int = 0,
        where: Filter = (),
        exact: bool = False,
        min_score: float | None = None,
        with_vectors: bool = False,
        effort: Effort = USUAL,
    ) -> list[Hit]:
        """The nearest points by cosine, best first, equal scores by id."""
        params = None if self._nodes.in_memory else search_params(self._settings, effort, exact=exact)

        async def search(count: int, start: int) -> list[Hit]:
            answer = await self._call(
                lambda client: client.query_points(
                    name,
                    query=vector.tolist(),
                    limit=count,
                    offset=start,
                    query_filter=_filter(where),
                    search_params=params,
                    score_threshold=min_score,
                    with_payload=True,
                    with_vectors=with_vectors,
                )
            )
            return [Hit(str(p.id), p.score, p.payload or {}, _vector(p.vector)) for p in answer.points]

        return await ordered_page(search, limit, offset)

    async def retrieve(self, name: str, ids: Sequence[str], *, with_vectors: bool = False) -> list[Point]:
        """The points of these ids that are there."""
        if not ids:
            return []
        records = await self._call(
            lambda client: client.retrieve(name, list(ids), with_payload=True, with_vectors=with_vectors)
        )
        return [_point(record.id, record.payload, record.vector) for record in records]

    async def scroll(
        self,
        name: str,
        *,
        after: str | None = None,
        limit: int = 1000,
        where: Filter = (),
        fields: Sequence[str] | None = None,
        with_vectors: bool = False,
    ) -> tuple[list[Point], str | None]:
        """A page of points in order of id, and where the next page starts."""
        records, following = await self._call(
            lambda client: client.scroll(
                name,
                offset=after,
                limit=limit,
                scroll_filter=_filter(where),
                with_payload=True if fields is None else list(fields),
                with_vectors=with_vectors,
            )
        )
        points = [_point(record.id, record.payload, record.vector) for record in records]
        return points, None if following is None else str(following)

    async def count(self, name: str, where: Filter = ()) -> int:
        """How many points match, exactly."""
        answer = await self._call(lambda client: client.count(name, count_filter=_filter(where), exact=True))
        return answer.count

    async def facet(self, name: str, key: str, *, where: Filter = (), limit: int = 20) -> dict[str, int]:
        """The commonest values of a keyword field and how many points have them."""
        known = [
            *KEYWORD_FIELDS,
            *(key for key, kind in self._settings.index_kinds.items() if kind == "keyword"),
        ]
        if key not in known:
            raise NotFoundError(f"no facet {key!r}: the collection has {', '.join(known)}")
        answer = await self._call(
            lambda client: client.facet(name, key, facet_filter=_filter(where), limit=limit, exact=True)
        )
        return {str(hit.value): hit.count for hit in answer.hits}

    async def unindexed(self, name: str) -> int:
        """How many vectors are outside the HNSW index."""
        return _outside(await self._info(name))

    async def optimize(self, name: str) -> None:
        """Switches indexing on and waits until every vector is in HNSW, but for those of small segments.

        Raises:
            StoreError: the server's optimizer failed, says it has done while vectors are outside, or finishes no part
                of its work for too long. Searches find everything all the same, and it may go on.
        """
        switched_on = models.OptimizersConfigDiff(indexing_threshold=INDEXING_THRESHOLD_KB)
        await self._info(name)
        if self._nodes.in_memory:
            return  # it has no index
        await self._call(lambda client: client.update_collection(name, optimizers_config=switched_on))
        settled = moved = time.monotonic()
        last: models.CollectionInfo | None = None
        while True:
            info = await self._info(name)
            outside, by_design = _outside(info), _in_small_segments(info)
            if info != last:
                last, moved = info, time.monotonic()
            if info.status == models.CollectionStatus.RED:
                raise StoreError(
                    f"collection {name}: the server's optimizer failed ({info.optimizer_status})"
                )
            if time.monotonic() - moved > self._settings.stall_timeout_s:
                raise StoreError(
                    f"collection {name}: the server has finished no part of its HNSW index for "
                    f"{self._settings.stall_timeout_s:g} s, {outside} vectors are outside: look at the server, run the "
                    "same command again when it is done, or raise store.qdrant.stall_timeout_s"
                )
            if info.status == models.CollectionStatus.YELLOW:
                settled = time.monotonic()
            elif info.status == models.CollectionStatus.GREEN and outside <= by_design:
                return
            elif time.monotonic() - settled > SETTLE_S:
                raise StoreError(
                    f"collection {name}: the server has stopped indexing with {outside} vectors outside HNSW"
                )
            await asyncio.sleep(OPTIMIZE_POLL_S)

    async def close(self) -> None:
        """Closes the channels."""
        await self._nodes.close()

    async def _info(self, name: str) -> models.CollectionInfo:
        return await self._call(lambda client: client.get_collection(name))

    async def _index(self, name: str, key: str, kind: models.PayloadSchemaType) -> None:
        await self._call(lambda client: client.create_payload_index(name, key, field_schema=kind, wait=True))


def _outside(info: models.CollectionInfo) -> int:
    return max(0, (info.points_count or 0) - (info.indexed_vectors_count or 0))


def _in_small_segments(info: models.CollectionInfo) -> int:
    """The most vectors that may be in segments too small to be indexed."""
    vectors = cast(models.VectorParams, info.config.params.vectors)
    threshold_kb = info.config.optimizer_config.indexing_threshold or 0
    return info.segments_count * threshold_kb * 1024 // (vectors.size * BYTES_A_NUMBER)


def _filter(where: Filter) -> models.Filter | None:
    return models.Filter(must=[_condition(condition) for condition in where]) if where else None


def _condition(condition: Condition) -> models.FieldCondition:
    if isinstance(condition, AnyOf):
        if len(condition.values) == 1:
            return models.FieldCondition(
                key=condition.field, match=models.MatchValue(value=condition.values[0])
            )
        return models.FieldCondition(
            key=condition.field, match=models.MatchAny(any=cast(list[str], list(condition.values)))
        )
    return models.FieldCondition(key=condition.field, range=models.Range(**dict(condition.bounds)))


def _point(id: Any, payload: Payload | None, vector: Any) -> Point:
    return Point(str(id), payload or {}, _vector(vector))


def _vector(value: Any) -> Vectors | None:
    return None if value is None else np.asarray(value, dtype=np.float32)
