"""Routes that search and embed."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, UploadFile
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from search_core.errors import InvalidRequestError
from search_core.query import DEFAULT_LIMIT, MAX_LIMIT, MAX_TEXT_CHARS, SearchRequest, SearchResponse, Term
from search_core.settings import Settings
from serve_app.form_fields import only
from serve_app.problems import invalid_request
from serve_app.service import SearchService, decode_base64

MAX_EMBED_TEXTS = 128
MAX_EMBED_IMAGES = 16


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS), AfterValidator(_not_blank)]


class QuickSearch(BaseModel):
    """The query string of `GET /search`."""

    model_config = ConfigDict(extra="forbid")

    q: Text = Field(description="words that describe the picture")
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)


class EmbedRequest(BaseModel):
    """Texts and pictures to encode."""

    model_config = ConfigDict(extra="forbid")

    texts: list[Text] = Field(default_factory=list, max_length=MAX_EMBED_TEXTS)
    images_base64: list[str] = Field(default_factory=list, max_length=MAX_EMBED_IMAGES)


class EmbedResponse(BaseModel):
    """Vectors of L2 norm 1, in the order of the request."""

    model: str
    dim: int
    texts: list[list[float]]
    images: list[list[float]]


def parse_request(raw: Any) -> SearchRequest:
    """A search request from plain values.

    Raises:
        InvalidRequestError: it does not fit.
    """
    try:
        return SearchRequest.model_validate(raw)
    except ValidationError as error:
        raise invalid_request(error) from None


def search_routes(service: SearchService, settings: Settings) -> APIRouter:
    """The routes, calling `service`."""
    routes = APIRouter(tags=["search"])

    @routes.post("/search")
    async def search(request: SearchRequest) -> SearchResponse:
        """Search by any mix of texts, pictures and indexed pictures."""
        return await service.search(request)

    @routes.get("/search")
    async def quick_search(query: Annotated[QuickSearch, Query()]) -> SearchResponse:
        """Search by one text."""
        return await service.search(SearchRequest(terms=[Term(text=query.q)], limit=query.limit))

    @routes.post("/search/image", dependencies=[only("image", "query")])
    async def search_by_image(
        image: Annotated[UploadFile, File(description="a picture file: one more term, of weight 1")],
        query: Annotated[
            str, Form(description="JSON like the body of POST /search; terms may be empty")
        ] = "{}",
    ) -> SearchResponse:
        """Search by a picture file, and by whatever `query` adds to it."""
        return await service.search(parse_request(_with_image(query, await image.read())))

    @routes.post("/embed")
    async def embed(request: EmbedRequest) -> EmbedResponse:
        """The vectors of texts and pictures, for use elsewhere."""
        if not request.texts and not request.images_base64:
            raise InvalidRequestError("give at least one text or picture")
        pictures = [_picture(i, value) for i, value in enumerate(request.images_base64)]
        spec, texts, images = await service.embed(request.texts, pictures)
        return EmbedResponse(
            model=spec.name,
            dim=spec.dim,
            texts=[one.vector.tolist() for one in texts],
            images=[one.vector.tolist() for one in images],
        )

    def _picture(index: int, value: str) -> bytes:
        try:
            return decode_base64(value, settings.image.max_image_mb)
        except ValueError:
            fields = [("is not valid base64", f"/images_base64/{index}", None)]
            raise InvalidRequestError(f"images_base64.{index}: is not valid base64", fields) from None

    return routes


def _with_image(query: str, image: bytes) -> dict[str, Any]:
    """The request in `query`, with a picture as its first term."""
    try:
        raw = json.loads(query or "{}")
    except (ValueError, RecursionError):
        raise InvalidRequestError(
            "query: is not valid JSON", [("is not valid JSON", None, "query")]
        ) from None
    terms = raw.get("terms", []) if isinstance(raw, dict) else None
    if not isinstance(terms, list):
        raise InvalidRequestError("query: must be a JSON object like the body of POST /search")
    return {**raw, "terms": [{"image_base64": base64.b64encode(image).decode("ascii")}, *terms]}
