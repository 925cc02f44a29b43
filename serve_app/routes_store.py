"""Routes that tell of the store and of the server itself."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from search_core.errors import InvalidRequestError
from search_core.filters import parse_filter
from search_core.points import FACET_FIELDS
from serve_app.messages import CollectionInfo
from serve_app.status import Status


class FacetQuery(BaseModel):
    """The query string of `GET /facets`."""

    model_config = ConfigDict(extra="forbid")

    field: list[str] = Field(
        default_factory=lambda: list(FACET_FIELDS), max_length=16, description="payload fields"
    )
    filter: str = Field("{}", max_length=10_000, description="JSON, as in POST /search")
    limit: int = Field(20, ge=1, le=1_000, description="values per field")
    collection: str | None = Field(None, min_length=1, max_length=200)


class FacetValue(BaseModel):
    """A value and how many pictures have it."""

    value: str
    count: int


class FacetsResponse(BaseModel):
    """The commonest values of each field, most frequent first."""

    facets: dict[str, list[FacetValue]]


class CollectionsResponse(BaseModel):
    """All collections, oldest first."""

    collections: list[CollectionInfo]


class EncoderResponse(BaseModel):
    """Where and how an encoder runs."""

    device: str
    precision: str


class NextResponse(BaseModel):
    """A published collection of another model, which is served once the encoders have loaded that model."""

    collection: str
    model: str
    error: str | None = Field(description="why the last attempt failed; there will be another")


class StatusResponse(BaseModel):
    """What is served; `collection` is null before the first index."""

    model: str
    fingerprint: str
    dim: int
    store: Literal["embedded", "qdrant"]
    encoders: dict[str, EncoderResponse]
    collection: str | None
    total_indexed: int
    unindexed: int = Field(description="vectors outside the HNSW index, which are searched one by one")
    next: NextResponse | None = Field(description="what the alias names already; null if that is served")


class ReadyResponse(BaseModel):
    """The server can answer."""

    status: Literal["ready"] = "ready"
    collection: str
    model: str
    total_indexed: int


class HealthResponse(BaseModel):
    """The process runs."""

    status: Literal["ok"] = "ok"


def store_routes(status: Status) -> APIRouter:
    """The routes, calling `status`."""
    routes = APIRouter(tags=["server"])

    @routes.get("/facets")
    async def facets(query: Annotated[FacetQuery, Query()]) -> FacetsResponse:
        """The commonest values of payload fields among the pictures that a filter lets through."""
        where = parse_filter(_json_object(query.filter))
        found = await status.facets(query.field, where, query.limit, query.collection)
        return FacetsResponse(
            facets={
                field: [FacetValue(value=value, count=count) for value, count in values.items()]
                for field, values in found.items()
            }
        )

    @routes.get("/collections")
    async def collections() -> CollectionsResponse:
        """What the store holds."""
        return CollectionsResponse(collections=await status.collections())

    @routes.get("/status")
    async def overview() -> StatusResponse:
        """What is served."""
        return StatusResponse(**await status.overview())

    @routes.get("/health")
    async def health() -> HealthResponse:
        """Whether this process runs; asks nobody else."""
        return HealthResponse()

    @routes.get("/ready")
    async def ready() -> ReadyResponse:
        """Whether store and encoders can answer a query."""
        found = await status.ready()
        return ReadyResponse(collection=found.name, model=found.model, total_indexed=found.count)

    return routes


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidRequestError(
            "filter: must be a JSON object, as in POST /search", [("must be a JSON object", None, "filter")]
        )
    return value
