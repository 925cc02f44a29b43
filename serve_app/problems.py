"""Every error as RFC 9457 problem details: the only place that knows what status an error has."""

from __future__ import annotations

import http
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from search_core.errors import (
    FetchError,
    ImageError,
    InvalidRequestError,
    ModelError,
    ModelMismatchError,
    NotFoundError,
    NothingPublishedError,
    OverloadedError,
    QueryError,
    SearchError,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
    UsageError,
)
from serve_app.visits import visit

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:image-search:problem:"
RETRY_AFTER_S = 2
MAX_ERRORS = 20
REQUEST_ID_HEADER = "x-request-id"
"""Serve sets it where a client did not."""

logger = logging.getLogger(__name__)

# the nearest class of an error's own line of descent decides
STATUS: Mapping[type[SearchError], tuple[int, str]] = {
    UsageError: (422, "invalid-request"),
    QueryError: (422, "invalid-query"),
    FetchError: (422, "image-url"),
    ImageError: (422, "image"),
    NotFoundError: (404, "not-found"),
    NothingPublishedError: (503, "not-ready"),
    OverloadedError: (503, "overloaded"),
    ModelMismatchError: (503, "model-mismatch"),
    StoreUnavailableError: (503, "store-unavailable"),
    StoreLockedError: (503, "store-unavailable"),
    StoreError: (500, "store"),
    ModelError: (500, "model"),
    SearchError: (500, "internal"),
}
TITLES = {
    "invalid-request": "The request is not valid",
    "invalid-query": "The query cannot be answered as asked",
    "image-url": "The picture behind image_url cannot be had",
    "image": "The picture cannot be used",
    "too-large": "The request is too large",
    "not-found": "Not found",
    "not-ready": "Nothing is indexed yet",
    "overloaded": "Too many requests at once",
    "model-mismatch": "The collection was made by another model",
    "store-unavailable": "The store does not answer",
    "store": "The store failed",
    "model": "The model failed",
    "internal": "Internal error",
}
# details of these may name inner addresses and paths: they go to the log instead
HIDDEN = {
    "store-unavailable": "the vector store does not answer: try again in a moment",
    "store": "the vector store failed; the server's log says how",
    "model": "the model failed; the server's log says how",
    "internal": "an unexpected error; the server's log says more",
}


class InvalidField(BaseModel):
    """One thing that is wrong with a request. `pointer` is a JSON pointer into the body."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field("about:blank", examples=[f"{TYPE_PREFIX}invalid-request"])
    title: str
    status: int
    detail: str
    instance: str | None = None
    request_id: str | None = Field(None, description="what the server's log calls this request")
    errors: list[InvalidField] = Field(default_factory=list)


def invalid_request(error: ValidationError) -> InvalidRequestError:
    """From pydantic's error about a JSON body."""
    found = [
        _field(("body", *one["loc"]), one["msg"]) for one in error.errors(include_url=False)[:MAX_ERRORS]
    ]
    return InvalidRequestError(
        _summary(found), [(field.detail, field.pointer, field.parameter) for field in found]
    )


def install(app: FastAPI) -> None:
    """Makes an application answer every error with a problem."""
    app.add_exception_handler(SearchError, _search_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(UnexpectedErrors)


class UnexpectedErrors:
    """ASGI middleware: what nobody foresaw becomes a 500 without internals, and is logged with its trace."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            logger.exception("unexpected error at %s %s", scope["method"], scope["path"])
            if started:
                raise
            await problem(Request(scope), 500, "internal", HIDDEN["internal"])(scope, receive, send)


def problem(
    request: Request,
    status: int,
    kind: str | None,
    detail: str,
    errors: Sequence[InvalidField] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The response for one problem; `kind` None is plain HTTP."""
    visit().outcome = kind or str(status)
    phrase = http.HTTPStatus(status).phrase
    body = Problem(
        type=f"{TYPE_PREFIX}{kind}" if kind else "about:blank",
        title=TITLES[kind] if kind else phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        request_id=request.headers.get(REQUEST_ID_HEADER),
        errors=list(errors),
    )
    retry = {"Retry-After": str(RETRY_AFTER_S)} if status == http.HTTPStatus.SERVICE_UNAVAILABLE else {}
    return JSONResponse(
        body.model_dump(exclude_none=True),
        status,
        headers={**retry, **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def code_of(error: SearchError) -> str:
    """The last part of the `type` of its problem."""
    return _status_of(error)[1]


def _status_of(error: SearchError) -> tuple[int, str]:
    if isinstance(error, ImageError) and error.reason in {"too_many_bytes", "too_many_pixels"}:
        return 413, "too-large"
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


async def _search_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SearchError)
    status, kind = _status_of(error)
    if kind in HIDDEN:
        logger.error("%s at %s: %s", type(error).__name__, request.url.path, error)
    fields = error.fields if isinstance(error, InvalidRequestError) else ()
    errors = [InvalidField(detail=words, pointer=place, parameter=name) for words, place, name in fields]
    return problem(request, status, kind, HIDDEN.get(kind, str(error)), errors)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fields = [
        _no_json(one) if one["type"] == "json_invalid" else _field(one["loc"], one["msg"])
        for one in error.errors()[:MAX_ERRORS]
    ]
    return problem(request, 422, "invalid-request", _summary(fields), fields)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = {413: "too-large", 404: "not-found"}.get(error.status_code)
    return problem(request, error.status_code, kind, str(error.detail), headers=error.headers)


def _no_json(error: Mapping[str, Any]) -> InvalidField:
    """A body that cannot be parsed: FastAPI has the place in it where a field's name would be."""
    where, why = error["loc"][-1], error.get("ctx", {}).get("error", "")
    return InvalidField(detail=f"the body is not valid JSON: {why} at character {where}")


def _field(location: Sequence[Any], message: str) -> InvalidField:
    """One of pydantic's errors, without the input that it complains of, which may be huge or no JSON at all."""
    where, *path = location
    detail = message.removeprefix("Value error, ")
    if where == "body":
        return InvalidField(detail=detail, pointer="".join(f"/{_escape(part)}" for part in path))
    return InvalidField(detail=detail, parameter=".".join(str(part) for part in path))


def _escape(part: Any) -> str:
    text = str(part).encode("utf-8", "replace").decode()[:100]
    return text.replace("~", "~0").replace("/", "~1")


def _summary(fields: Sequence[InvalidField]) -> str:
    """The first error in words, and where it is."""
    if not fields:
        return "the request is not valid"
    first = fields[0]
    where = (first.pointer or first.parameter or "").strip("/").replace("/", ".")
    return f"{where}: {first.detail}" if where else first.detail
