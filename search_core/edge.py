"""The embedded store: Qdrant Edge shards in a folder, held by one process at a time.

Calls into a shard block the event loop and the GIL, but only for milliseconds: what takes long, building
HNSW, is done by a child process on a copy of the shard, which then takes the shard's place.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import qdrant_edge as edge

from search_core.edge_config import (
    ALL_FIELDS,
    LOAD_FIELDS,
    MOST_LINKED,
    index_payload,
    is_linked,
    shard_config,
)
from search_core.edge_files import EdgeFiles, Holder
from search_core.edge_shards import EdgeShards, OpenShard
from search_core.errors import NotFoundError, StoreError, StoreLockedError
from search_core.filters import AnyOf, Condition, Filter
from search_core.model import ModelSpec
from search_core.pages import ordered_page
from search_core.points import KEYWORD_FIELDS, Batch, Hit, Point, Vectors
from search_core.settings import StoreSettings
from search_core.store import USUAL, Collection, Effort, new_metadata

HNSW_EF = 256  # twice what the graph was built with, so that hard data is found too
WIDE_HNSW_EF = 512  # in large shards: of a million random vectors, 256 found 94.2 % of the nearest ten
ACORN = edge.AcornSearchParams(enable=True)
"""Looks past neighbours that a filter leaves out (Patel et al. 2024), where HNSW has no links for filters."""
FLUSH_POINTS = 5_000
"""Written points whose pages are still in private memory, at most."""
OPTIMIZER = "search_core.edge_optimizer"


class EdgeStore:
    """`search_core.store.Store` in a folder. Shards open at first use and stay open until `release` or `close`."""

    def __init__(self, settings: StoreSettings, holder: Holder | None = None) -> None:
        """`holder` is named to those who wait for the store; None for this process."""
        self._files = EdgeFiles(settings.path, holder)
        self._shards = EdgeShards(self._files, settings.lock_timeout_s)

    async def collections(self) -> list[Collection]:
        """All collections, oldest first; the count of one that another process holds is the last one noted."""
        return [await self._overview(name) for name in self._files.names()]

    async def describe(self, name: str) -> Collection:
        """One collection as it is now."""
        async with self._shards.using(name) as held:
            return Collection(name, held.count(), self._files.metadata(name))

    async def create(self, name: str, spec: ModelSpec, *, bulk: bool = False) -> None:
        """Makes an empty collection, stamped with the model; does nothing if it is there."""
        if self._files.exists(name):
            return
        self._files.clear(name)
        path = self._files.shard(name, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        shard = edge.EdgeShard.create(str(path), shard_config(spec.dim))
        index_payload(shard, LOAD_FIELDS if bulk else ALL_FIELDS)
        shard.flush()
        shard.close()
        self._files.write_metadata(name, {**new_metadata(spec), "generation": 1})

    async def annotate(self, name: str, values: Mapping[str, Any]) -> None:
        """Merges JSON values into the collection's metadata."""
        self._files.write_metadata(name, {**self._files.metadata(name), **values})

    async def drop(self, name: str) -> None:
        """Deletes a collection and its points."""
        await self._shards.discard(name)
        self._files.clear(name)

    async def aliases(self) -> dict[str, str]:
        """Each alias and the collection that it names."""
        return self._files.aliases()

    async def publish(self, alias: str, name: str) -> None:
        """Moves (or makes) an alias in one step."""
        self._files.metadata(name)
        self._files.set_alias(alias, name)

    async def upsert(self, name: str, batch: Batch) -> None:
        """Writes points; Edge's write-ahead log has them when this returns."""
        if not len(batch.ids):
            return
        async with self._shards.using(name) as held, held.writing:
            with _plain_errors(name):
                points = [
                    edge.Point(id, vector, payload)
                    for id, vector, payload in zip(
                        batch.ids, batch.vectors.tolist(), batch.payloads, strict=True
                    )
                ]
                held.shard.update(edge.UpdateOperation.upsert_points(points))
            held.note(batch.ids)
            held.unflushed += len(points)
            if held.unflushed >= FLUSH_POINTS:
                with _plain_errors(name):
                    held.shard.flush()
                held.unflushed = 0

    async def delete(self, name: str, ids: Sequence[str]) -> None:
        """Deletes points; ids that are not there are no error."""
        if not ids:
            return
        async with self._shards.using(name) as held, held.writing:
            with _plain_errors(name):
                held.shard.update(edge.UpdateOperation.delete_points(list(ids)))
            held.note(ids)

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
        async with self._shards.using(name) as held:

            async def search(count: int, start: int) -> list[Hit]:
                request = edge.QueryRequest(
                    limit=count,
                    offset=start,
                    query=edge.Query.Nearest(vector.tolist()),
                    filter=_filter(where),
                    score_threshold=min_score,
                    params=edge.SearchParams(
                        hnsw_ef=effort.hnsw_ef or (HNSW_EF if held.linked else WIDE_HNSW_EF),
                        exact=exact,
                        acorn=ACORN if where and not held.linked else None,
                    ),
                    with_payload=True,
                    with_vector=with_vectors,
                )
                with _plain_errors(name):
                    found = held.shard.query(request)
                return [Hit(str(p.id), p.score, p.payload or {}, _vector(p.vector)) for p in found]

            return await ordered_page(search, limit, offset)

    async def retrieve(self, name: str, ids: Sequence[str], *, with_vectors: bool = False) -> list[Point]:
        """The points of these ids that are there."""
        if not ids:
            return []
        async with self._shards.using(name) as held:
            with _plain_errors(name):
                records = held.shard.retrieve(list(ids), True, with_vectors)
            return [_point(record) for record in records]

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
        async with self._shards.using(name) as held:
            records, following = held.shard.scroll(
                edge.ScrollRequest(
                    offset=after,
                    limit=limit,
                    filter=_filter(where),
                    with_payload=True if fields is None else list(fields),
                    with_vector=with_vectors,
                )
            )
        return [_point(record) for record in records], None if following is None else str(following)

    async def count(self, name: str, where: Filter = ()) -> int:
        """How many points match, exactly."""
        async with self._shards.using(name) as held:
            return held.shard.count(edge.CountRequest(exact=True, filter=_filter(where)))

    async def facet(self, name: str, key: str, *, where: Filter = (), limit: int = 20) -> dict[str, int]:
        """The commonest values of a keyword field and how many points have them."""
        async with self._shards.using(name) as held:
            if key not in held.shard.info().payload_schema:
                raise NotFoundError(f"no facet {key!r}: the collection has {', '.join(KEYWORD_FIELDS)}")
            response = held.shard.facet(
                edge.FacetRequest(key=key, limit=limit, exact=True, filter=_filter(where))
            )
        return {str(hit.value): hit.count for hit in response.hits}

    async def unindexed(self, name: str) -> int:
        """How many vectors are outside the HNSW index."""
        async with self._shards.using(name) as held:
            info = held.shard.info()
        return max(0, info.points_count - info.indexed_vectors_count)

    async def optimize(self, name: str) -> None:
        """Builds HNSW and payload indexes on a copy in a child process; writes that come meanwhile are carried over.

        Raises:
            StoreError: the child failed; the collection is as it was.
        """
        async with self._shards.using(name) as held:
            if held.changed is not None:
                raise StoreError(f"collection {name} is being optimized already")
            await self._optimize(name, held)

    async def release(self, idle_s: float) -> list[str]:
        """Closes shards that no alias names, that no call uses and none has for `idle_s`; their names.

        Whoever names such a collection all the same opens it again.
        """
        return self._shards.release(set(self._files.aliases().values()), idle_s)

    async def close(self) -> None:
        """Closes every shard; its lock is free then."""
        self._shards.close()

    async def _optimize(self, name: str, held: OpenShard) -> None:
        generation = held.generation + 1
        target = self._files.shard(name, generation)
        async with held.writing:
            held.shard.flush()
            shutil.rmtree(target, ignore_errors=True)
            await asyncio.to_thread(shutil.copytree, self._files.shard(name, held.generation), target)
            held.changed = set()
        try:
            await _run_optimizer(str(target), links=held.count() <= MOST_LINKED)
            fresh = edge.EdgeShard.load(str(target))
            async with held.writing:
                self._carry_over(held, fresh)
                self._files.write_metadata(name, {**self._files.metadata(name), "generation": generation})
                before, held.shard, held.generation = held.shard, fresh, generation
                held.linked = is_linked(fresh)
                before.close()
        finally:
            held.changed = None
        self._files.sweep(name, generation)

    async def _overview(self, name: str) -> Collection:
        metadata = self._files.metadata(name)
        held = self._shards.find(name)
        if held is not None:
            return Collection(name, held.count(), metadata)
        try:
            held = self._shards.load(name)
        except StoreLockedError:
            return Collection(name, int(metadata.get("count", 0)), metadata)
        count = held.count()
        held.shard.close()
        return Collection(name, count, metadata)

    @staticmethod
    def _carry_over(held: OpenShard, fresh: edge.EdgeShard) -> None:
        """Repeats on the fresh shard what was written to the old one since it was copied."""
        changed = sorted(held.changed or ())
        for start in range(0, len(changed), 256):
            ids = changed[start : start + 256]
            kept = held.shard.retrieve(list(ids), True, True)
            gone = set(ids) - {str(record.id) for record in kept}
            if kept:
                points = [edge.Point(record.id, record.vector or [], record.payload) for record in kept]
                fresh.update(edge.UpdateOperation.upsert_points(points))
            if gone:
                fresh.update(edge.UpdateOperation.delete_points(sorted(gone)))
        fresh.flush()


@contextmanager
def _plain_errors(name: str) -> Iterator[None]:
    """What qdrant_edge refuses, as an error of ours in one line: it raises plain Exception for everything."""
    try:
        yield
    except Exception as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreError(f"collection {name}: {line}") from None


async def _run_optimizer(path: str, *, links: bool) -> None:
    arguments = [path, "links"] if links else [path]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", OPTIMIZER, *arguments, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, errors = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        last = (errors.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise StoreError(f"the HNSW index could not be built: {last}")


def _filter(where: Filter) -> edge.Filter | None:
    return edge.Filter(must=[_condition(condition) for condition in where]) if where else None


def _condition(condition: Condition) -> edge.FieldCondition:
    if isinstance(condition, AnyOf):
        if len(condition.values) == 1:
            value = condition.values[0]
            if isinstance(value, bool):
                value = cast(bool, np.bool_(value))  # qdrant_edge takes Python's True for the number 1
            return edge.FieldCondition(key=condition.field, match=edge.MatchValue(value))
        return edge.FieldCondition(
            key=condition.field, match=edge.MatchAny(cast(list[str], list(condition.values)))
        )
    return edge.FieldCondition(key=condition.field, range=edge.RangeFloat(**dict(condition.bounds)))


def _point(record: edge.Record) -> Point:
    return Point(str(record.id), record.payload or {}, _vector(record.vector))


def _vector(value: Any) -> Vectors | None:
    return None if value is None else np.asarray(value, dtype=np.float32)
