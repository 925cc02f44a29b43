"""The embedded store: Qdrant Edge shards in a folder, held by one process at a time.

Calls into a shard block the event loop and the GIL, but only for milliseconds: what takes long, building
HNSW, is done by a child process on a copy of the shard, which then takes the shard's place.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import qdrant_edge as edge

from search_core.edge_files import EdgeFiles
from search_core.errors import NotFoundError, StoreError, StoreLockedError
from search_core.filters import AnyOf, Condition, Filter
from search_core.model import ModelSpec
from search_core.pages import ordered_page
from search_core.points import INTEGER_FIELDS, KEYWORD_FIELDS, Batch, Hit, Point, Vectors
from search_core.settings import StoreSettings
from search_core.store import Collection, new_metadata

HNSW_M = 16
HNSW_EF_CONSTRUCT = 128
HNSW_EF = 256  # twice what the graph was built with, so that hard data is found too
FULL_SCAN_KB = 10_000
RETRY_PAUSE_S = 0.1
OPTIMIZER = "search_core.edge_optimizer"


@dataclass
class _Held:
    """An open shard. While `changed` is a set, ids that are written or deleted are noted in it."""

    shard: edge.EdgeShard
    generation: int
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: set[str] | None = None

    def note(self, ids: Sequence[str]) -> None:
        if self.changed is not None:
            self.changed.update(ids)


class EdgeStore:
    """`search_core.store.Store` in a folder. Shards open at first use and stay open until `close`."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._files = EdgeFiles(settings.path)
        self._held: dict[str, _Held] = {}

    async def collections(self) -> list[Collection]:
        """All collections, oldest first; the count of one that another process holds is the last one noted."""
        return [await self._overview(name) for name in self._files.names()]

    async def describe(self, name: str) -> Collection:
        """One collection as it is now."""
        count = (await self._open(name)).shard.count(edge.CountRequest(exact=True))
        return Collection(name, count, self._files.metadata(name))

    async def create(self, name: str, spec: ModelSpec) -> None:
        """Makes an empty collection, stamped with the model; does nothing if it is there."""
        if self._files.exists(name):
            return
        self._files.clear(name)
        path = self._files.shard(name, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        shard = edge.EdgeShard.create(str(path), _config(spec.dim))
        for key in KEYWORD_FIELDS:
            shard.update(edge.UpdateOperation.create_field_index(key, edge.PayloadSchemaType.Keyword))
        for key in INTEGER_FIELDS:
            shard.update(edge.UpdateOperation.create_field_index(key, edge.PayloadSchemaType.Integer))
        shard.flush()
        shard.close()
        self._files.write_metadata(name, {**new_metadata(spec), "generation": 1})

    async def annotate(self, name: str, values: Mapping[str, Any]) -> None:
        """Merges JSON values into the collection's metadata."""
        self._files.write_metadata(name, {**self._files.metadata(name), **values})

    async def drop(self, name: str) -> None:
        """Deletes a collection and its points."""
        await self._open(name)  # refuses one that another process holds
        self._held.pop(name).shard.close()
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
        held = await self._open(name)
        async with held.writing:
            with _plain_errors(name):
                points = [
                    edge.Point(id, vector, payload)
                    for id, vector, payload in zip(
                        batch.ids, batch.vectors.tolist(), batch.payloads, strict=True
                    )
                ]
                held.shard.update(edge.UpdateOperation.upsert_points(points))
            held.note(batch.ids)

    async def delete(self, name: str, ids: Sequence[str]) -> None:
        """Deletes points; ids that are not there are no error."""
        if not ids:
            return
        held = await self._open(name)
        async with held.writing:
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
    ) -> list[Hit]:
        """The nearest points by cosine, best first, equal scores by id."""
        held = await self._open(name)

        async def search(count: int, start: int) -> list[Hit]:
            request = edge.QueryRequest(
                limit=count,
                offset=start,
                query=edge.Query.Nearest(vector.tolist()),
                filter=_filter(where),
                score_threshold=min_score,
                params=edge.SearchParams(hnsw_ef=HNSW_EF, exact=exact),
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
        held = await self._open(name)
        with _plain_errors(name):
            return [_point(record) for record in held.shard.retrieve(list(ids), True, with_vectors)]

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
        held = await self._open(name)
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
        held = await self._open(name)
        return held.shard.count(edge.CountRequest(exact=True, filter=_filter(where)))

    async def facet(self, name: str, key: str, *, where: Filter = (), limit: int = 20) -> dict[str, int]:
        """The commonest values of a keyword field and how many points have them."""
        held = await self._open(name)
        if key not in held.shard.info().payload_schema:
            raise NotFoundError(f"no facet {key!r}: the collection has {', '.join(KEYWORD_FIELDS)}")
        response = held.shard.facet(
            edge.FacetRequest(key=key, limit=limit, exact=True, filter=_filter(where))
        )
        return {str(hit.value): hit.count for hit in response.hits}

    async def unindexed(self, name: str) -> int:
        """How many vectors are outside the HNSW index."""
        info = (await self._open(name)).shard.info()
        return max(0, info.points_count - info.indexed_vectors_count)

    async def optimize(self, name: str) -> None:
        """Builds HNSW on a copy in a child process; writes that come meanwhile are carried over.

        Raises:
            StoreError: the child failed; the collection is as it was.
        """
        held = await self._open(name)
        if held.changed is not None:
            raise StoreError(f"collection {name} is being optimized already")
        generation = held.generation + 1
        target = self._files.shard(name, generation)
        async with held.writing:
            held.shard.flush()
            shutil.rmtree(target, ignore_errors=True)
            await asyncio.to_thread(shutil.copytree, self._files.shard(name, held.generation), target)
            held.changed = set()
        try:
            await _run_optimizer(str(target))
            fresh = edge.EdgeShard.load(str(target))
            async with held.writing:
                self._carry_over(held, fresh)
                self._files.write_metadata(name, {**self._files.metadata(name), "generation": generation})
                self._held[name] = _Held(fresh, generation)
                held.shard.close()
        finally:
            held.changed = None
        self._files.sweep(name, generation)

    async def close(self) -> None:
        """Closes every shard; its lock is free then."""
        for name, held in self._held.items():
            if self._files.exists(name):
                count = held.shard.count(edge.CountRequest(exact=True))
                self._files.write_metadata(name, {**self._files.metadata(name), "count": count})
            held.shard.flush()
            held.shard.close()
        self._held.clear()

    async def _overview(self, name: str) -> Collection:
        metadata = self._files.metadata(name)
        if name in self._held:
            return await self.describe(name)
        try:
            shard = self._load(name).shard
        except StoreLockedError:
            return Collection(name, int(metadata.get("count", 0)), metadata)
        count = shard.count(edge.CountRequest(exact=True))
        shard.close()
        return Collection(name, count, metadata)

    async def _open(self, name: str) -> _Held:
        """The open shard; waits for one that another process holds.

        Raises:
            StoreLockedError: it is held for longer than the setting allows.
        """
        deadline = time.monotonic() + self._settings.lock_timeout_s
        while name not in self._held:
            try:
                self._held[name] = self._load(name)
            except StoreLockedError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(RETRY_PAUSE_S)
        return self._held[name]

    def _load(self, name: str) -> _Held:
        generation = self._generation(name)
        path = self._files.shard(name, generation)
        held = (
            f"the store {self._settings.path} is held by {self._files.holder(name)}: wait for it or stop it"
        )
        try:
            shard = edge.EdgeShard.load(str(path))
        except Exception as error:  # qdrant_edge raises plain Exception for everything
            if "WouldBlock" in str(error) or self._generation(name) != generation:
                raise StoreLockedError(held) from None
            raise StoreError(f"collection {name} cannot be opened: {error}") from None
        if self._generation(name) != generation:  # its holder has just gone on to an optimized copy
            shard.close()
            raise StoreLockedError(held)
        self._files.sweep(name, generation)
        self._files.sign(name)
        return _Held(shard, generation)

    def _generation(self, name: str) -> int:
        return int(self._files.metadata(name).get("generation", 1))

    @staticmethod
    def _carry_over(held: _Held, fresh: edge.EdgeShard) -> None:
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


async def _run_optimizer(path: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", OPTIMIZER, path, stderr=asyncio.subprocess.PIPE
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


def _config(dim: int) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=dim, distance=edge.Distance.Cosine),
        hnsw_config=edge.HnswIndexConfig(HNSW_M, HNSW_EF_CONSTRUCT, FULL_SCAN_KB),
    )


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
