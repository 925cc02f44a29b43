"""A Qdrant server as the store, over gRPC; or the client's in-memory imitation of one, for tests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import grpc
import numpy as np
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from search_core.errors import NotFoundError, StoreError, StoreUnavailableError
from search_core.filters import AnyOf, Condition, Filter
from search_core.model import ModelSpec
from search_core.pages import ordered_page
from search_core.points import INTEGER_FIELDS, KEYWORD_FIELDS, Batch, Hit, Payload, Point, Vectors
from search_core.settings import StoreSettings
from search_core.store import Collection, new_metadata

HNSW_M = 16
HNSW_EF_CONSTRUCT = 128
INDEXING_THRESHOLD_KB = 10_000
OPTIMIZE_POLL_S = 0.25
IN_MEMORY = ":memory:"

T = TypeVar("T")
logger = logging.getLogger(__name__)


class QdrantStore:
    """`search_core.store.Store` on a Qdrant server. One event loop each, as the gRPC channel is bound to it."""

    def __init__(self, settings: StoreSettings) -> None:
        self._url = settings.qdrant_url or ""
        self._in_memory = self._url == IN_MEMORY
        if self._in_memory:
            self._client = AsyncQdrantClient(location=IN_MEMORY)
            return
        if urlsplit(self._url).scheme not in {"http", "https"}:
            raise StoreError(f"Qdrant URL {self._url!r}: give one such as http://127.0.0.1:6333")
        self._client = AsyncQdrantClient(
            url=self._url,
            api_key=settings.qdrant_api_key,
            prefer_grpc=True,
            grpc_port=settings.qdrant_grpc_port,
            timeout=int(max(1, settings.timeout_s)),
            check_compatibility=False,
        )

    async def collections(self) -> list[Collection]:
        """All collections that this project made, oldest first."""
        answer = await self._call(self._client.get_collections())
        found = [await self.describe(item.name) for item in answer.collections]
        ours = [collection for collection in found if "fingerprint" in collection.metadata]
        return sorted(ours, key=lambda collection: collection.name.rsplit("__", 1)[-1])

    async def describe(self, name: str) -> Collection:
        """One collection as it is now."""
        info = await self._call(self._client.get_collection(name))
        count = await self._call(self._client.count(name, exact=True))
        return Collection(name, count.count, dict(info.config.metadata or {}))

    async def create(self, name: str, spec: ModelSpec) -> None:
        """Makes an empty collection, stamped with the model, or completes one whose making was interrupted."""
        if not await self._call(self._client.collection_exists(name)):
            await self._call(
                self._client.create_collection(
                    name,
                    vectors_config=models.VectorParams(size=spec.dim, distance=models.Distance.COSINE),
                    hnsw_config=models.HnswConfigDiff(m=HNSW_M, ef_construct=HNSW_EF_CONSTRUCT),
                    optimizers_config=models.OptimizersConfigDiff(indexing_threshold=INDEXING_THRESHOLD_KB),
                    metadata=new_metadata(spec),
                )
            )
        if self._in_memory:
            return  # payload indexes have no effect there, and warn
        for key in KEYWORD_FIELDS:
            await self._index(name, key, models.PayloadSchemaType.KEYWORD)
        for key in INTEGER_FIELDS:
            await self._index(name, key, models.PayloadSchemaType.INTEGER)

    async def annotate(self, name: str, values: Mapping[str, Any]) -> None:
        """Merges JSON values into the collection's metadata."""
        info = await self._call(self._client.get_collection(name))
        merged = {**(info.config.metadata or {}), **values}
        await self._call(self._client.update_collection(name, metadata=merged))

    async def drop(self, name: str) -> None:
        """Deletes a collection and its points."""
        await self._call(self._client.get_collection(name))
        await self._call(self._client.delete_collection(name))

    async def aliases(self) -> dict[str, str]:
        """Each alias and the collection that it names."""
        answer = await self._call(self._client.get_aliases())
        return {alias.alias_name: alias.collection_name for alias in answer.aliases}

    async def publish(self, alias: str, name: str) -> None:
        """Moves (or makes) an alias in one step."""
        operations: list[models.AliasOperations] = []
        if alias in await self.aliases():
            operations.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
        create = models.CreateAlias(collection_name=name, alias_name=alias)
        operations.append(models.CreateAliasOperation(create_alias=create))
        await self._call(self._client.update_collection_aliases(operations))

    async def upsert(self, name: str, batch: Batch) -> None:
        """Writes points and waits until they are applied."""
        if not len(batch.ids):
            return
        points = models.Batch(
            ids=list(batch.ids),
            vectors=batch.vectors.tolist(),
            payloads=[dict(one) for one in batch.payloads],
        )
        await self._call(self._client.upsert(name, points, wait=True))

    async def delete(self, name: str, ids: Sequence[str]) -> None:
        """Deletes points; ids that are not there are no error."""
        if ids:
            await self._call(self._client.delete(name, models.PointIdsList(points=list(ids)), wait=True))

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

        async def search(count: int, start: int) -> list[Hit]:
            answer = await self._call(
                self._client.query_points(
                    name,
                    query=vector.tolist(),
                    limit=count,
                    offset=start,
                    query_filter=_filter(where),
                    search_params=models.SearchParams(exact=True) if exact and not self._in_memory else None,
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
            self._client.retrieve(name, list(ids), with_payload=True, with_vectors=with_vectors)
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
            self._client.scroll(
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
        answer = await self._call(self._client.count(name, count_filter=_filter(where), exact=True))
        return answer.count

    async def facet(self, name: str, key: str, *, where: Filter = (), limit: int = 20) -> dict[str, int]:
        """The commonest values of a keyword field and how many points have them."""
        if key not in KEYWORD_FIELDS:
            raise NotFoundError(f"no facet {key!r}: the collection has {', '.join(KEYWORD_FIELDS)}")
        answer = await self._call(
            self._client.facet(name, key, facet_filter=_filter(where), limit=limit, exact=True)
        )
        return {str(hit.value): hit.count for hit in answer.hits}

    async def unindexed(self, name: str) -> int:
        """How many vectors are outside the HNSW index."""
        info = await self._call(self._client.get_collection(name))
        return max(0, (info.points_count or 0) - (info.indexed_vectors_count or 0))

    async def optimize(self, name: str) -> None:
        """Waits until the server's own optimizers have nothing left to do."""
        while True:
            info = await self._call(self._client.get_collection(name))
            if info.status == models.CollectionStatus.RED:
                raise StoreError(
                    f"collection {name}: the server's optimizer failed ({info.optimizer_status})"
                )
            if info.status != models.CollectionStatus.YELLOW:
                return
            await asyncio.sleep(OPTIMIZE_POLL_S)

    async def close(self) -> None:
        """Closes the channel."""
        await self._client.close()

    async def _index(self, name: str, key: str, kind: models.PayloadSchemaType) -> None:
        await self._call(self._client.create_payload_index(name, key, field_schema=kind, wait=True))

    async def _call(self, call: Awaitable[T]) -> T:
        """Awaits one client call and turns what it raises into this project's errors."""
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise self._error(
                error.code() == grpc.StatusCode.NOT_FOUND, error.code().name, error.details()
            ) from None
        except UnexpectedResponse as error:
            raise self._error(error.status_code == 404, str(error.status_code), error.reason_phrase) from None
        except (ResponseHandlingException, OSError) as error:
            raise StoreUnavailableError(
                f"the Qdrant server at {self._url} does not answer: {error}"
            ) from None
        except ValueError as error:  # of the client, before it has asked the server, or in memory
            line = (str(error).splitlines() or ["ValueError"])[0]
            raise (
                NotFoundError(f"Qdrant: {line}") if "not found" in line else StoreError(f"Qdrant: {line}")
            ) from None

    def _error(self, missing: bool, code: str, details: str | None) -> StoreError | NotFoundError:
        text = (details or "").splitlines()[0] if details else code
        if missing:
            return NotFoundError(f"Qdrant: {text}")
        if code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "503"}:
            return StoreUnavailableError(f"the Qdrant server at {self._url} does not answer: {text}")
        return StoreError(f"the Qdrant server at {self._url} refuses: {text}")


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
