"""Search from request to response: pin model and collection, encode the terms, ask retrieval, dress the hits."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from search_core.errors import ImageError, ModelMismatchError, NothingPublishedError
from search_core.fetch import fetch_image
from search_core.filters import parse_filter
from search_core.model import ModelSpec
from search_core.query import HitModel, SearchRequest, SearchResponse, Term
from search_core.settings import Settings
from serve_app.messages import Encoded, Found, FoundHit, Pin, TermVector, VectorQuery
from serve_app.pins import Pinning
from serve_app.text_cache import TextCache
from serve_app.tracing import span
from serve_app.visits import kind_of, visit

PICTURES_AT_ONCE = 8
"""Pictures of queries that one replica fetches or holds for encoding at a time: a bound on its memory."""

T = TypeVar("T")
EncodeText = Callable[[str, ModelSpec], Awaitable[Encoded]]
EncodeImage = Callable[[bytes, ModelSpec], Awaitable[Encoded]]


class Searching(Protocol):
    """The part of `Retrieval` that answers queries."""

    async def search(self, query: VectorQuery) -> Found:
        """The hits of one page."""


class SearchService:
    """What the search routes, the page and tests call. Holds no state but the text cache.

    `first` is the model of embeddings that are asked for before the first index.
    """

    def __init__(
        self,
        first: ModelSpec,
        settings: Settings,
        encode_text: EncodeText,
        encode_image: EncodeImage,
        retrieval: Searching,
        pins: Pinning,
    ) -> None:
        self._first = first
        self._settings = settings
        self._encode_text = TextCache(encode_text, settings.serve.text_cache)
        self._encode_image = encode_image
        self._retrieval = retrieval
        self._pins = pins
        self._pictures = asyncio.Semaphore(PICTURES_AT_ONCE)

    async def search(self, request: SearchRequest) -> SearchResponse:
        """Answers one request, by the one model and the one collection that the answer names.

        Raises:
            SearchError: of whichever kind says what is wrong.
        """
        kind = visit().kind = kind_of(request)
        with span("search", kind=kind):
            return await self._pins.answer(request.collection, lambda pin: self._search(request, pin))

    async def _search(self, request: SearchRequest, pin: Pin) -> SearchResponse:
        start = time.perf_counter()
        where = parse_filter(request.filter)
        visit().collection = pin.collection
        terms = await _all([self._term(term, pin.spec) for term in request.terms])
        encoded = time.perf_counter()
        query = VectorQuery(
            collection=pin.collection,
            terms=tuple(term for term, _ in terms),
            fingerprint=_one_model({fingerprint for _, fingerprint in terms if fingerprint}),
            like=tuple(dict.fromkeys(request.like)),
            dislike=tuple(dict.fromkeys(request.dislike)),
            where=where,
            limit=request.limit,
            offset=request.offset,
            min_score=request.min_score,
            explain=request.explain,
        )
        with span("retrieve", collection=pin.collection):
            found = await self._retrieval.search(query)
        done = time.perf_counter()
        response = SearchResponse(
            hits=[_hit(hit) for hit in found.hits],
            total_indexed=found.total,
            model=found.model,
            collection=found.collection,
            timings_ms={
                "encode": _ms(encoded - start),
                "retrieve": _ms(done - encoded),
                "total": _ms(time.perf_counter() - start),
            },
        )
        visit().timings_ms = response.timings_ms
        return response

    async def embed(
        self, texts: Sequence[str], images: Sequence[bytes]
    ) -> tuple[ModelSpec, list[Encoded], list[Encoded]]:
        """The published collection's model, and its vectors of texts and of picture files."""
        try:
            spec = (await self._pins.pin()).spec
        except NothingPublishedError:
            spec = self._first
        vectors = await _all([self._encode_text(text, spec) for text in texts])
        return spec, vectors, await _all([self._picture(image, spec) for image in images])

    async def _term(self, term: Term, spec: ModelSpec) -> tuple[TermVector, str | None]:
        """The term, encoded, and the fingerprint of the model that did it (None for an id)."""
        if term.image_id is not None:
            return TermVector("image_id", "image", term.weight, image_id=term.image_id), None
        with span("encode", modality="text" if term.text is not None else "image"):
            return await self._encoded(term, spec)

    async def _encoded(self, term: Term, spec: ModelSpec) -> tuple[TermVector, str]:
        if term.text is not None:
            encoded = await self._encode_text(term.text.strip(), spec)
            return TermVector("text", "text", term.weight, encoded.vector), encoded.fingerprint
        if term.image_url is not None:
            encoded = await self._fetched(term.image_url, spec)
            return TermVector("image_url", "image", term.weight, encoded.vector), encoded.fingerprint
        encoded = await self._picture(
            decode_base64(term.image_base64 or "", self._settings.image.max_image_mb), spec
        )
        return TermVector("image_base64", "image", term.weight, encoded.vector), encoded.fingerprint

    async def _picture(self, data: bytes, spec: ModelSpec) -> Encoded:
        async with self._pictures:
            return await self._encode_image(data, spec)

    async def _fetched(self, url: str, spec: ModelSpec) -> Encoded:
        settings = self._settings
        async with self._pictures:
            data = await fetch_image(
                url,
                max_bytes=int(min(settings.image.max_image_mb, settings.serve.max_upload_mb) * 1e6),
                timeout_s=settings.serve.fetch_timeout_s,
                allow_private=settings.serve.allow_private_urls,
            )
            return await self._encode_image(data, spec)


def decode_base64(value: str, max_mb: float) -> bytes:
    """Picture bytes from valid base64; its size is checked before it is decoded.

    Raises:
        ImageError: more than `max_mb` megabytes.
    """
    size = len(value) * 3 // 4
    if size > max_mb * 1e6:
        raise ImageError("too_many_bytes", f"{size / 1e6:.1f} MB is more than the limit of {max_mb:g} MB")
    return base64.b64decode(value)


async def _all(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error cancels the rest and is raised alone."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
    return [task.result() for task in tasks]


def _one_model(fingerprints: set[str]) -> str | None:
    if len(fingerprints) > 1:
        raise ModelMismatchError("the encoders answered with two models: try again in a moment")
    return next(iter(fingerprints), None)


def _hit(hit: FoundHit) -> HitModel:
    base = f"/api/images/{hit.id}"
    return HitModel(
        id=hit.id,
        score=max(-1.0, min(1.0, hit.score)),  # stores round past 1
        uri=str(hit.payload.get("uri", "")),
        payload=hit.payload,
        image_url=f"{base}/content",
        thumbnail_url=f"{base}/thumbnail",
        explanation=hit.explanation,
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
