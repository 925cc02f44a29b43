"""`image-search search`: by the running server if there is one, else in this process."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from cli.stores import command_store
from search_core.errors import QueryError, SearchError, StoreUnavailableError, UsageError
from search_core.query import SearchRequest
from search_core.server_file import RunningServer, find_server
from search_core.settings import Settings

WITHOUT_WEIGHT = -0.5
SERVER_TIMEOUT_S = 60.0
SERVER_START_S = 60.0
SERVER_POLL_S = 0.2


class _NotReady(Exception):  # noqa: N818 - no error yet
    """Nobody answers at the server's address, or not yet the API."""


def run(
    settings: Settings, *, text: str | None, image: Path | None, without: str | None, limit: int
) -> list[dict[str, Any]]:
    """The hits, best first, as the HTTP contract has them.

    Raises:
        SearchError: of the kind that says what is wrong.
    """
    picture = None if image is None else _read(image, settings)
    request = _request(text, picture, without, limit)
    deadline = time.monotonic() + SERVER_START_S
    while server := find_server(settings.store) if settings.store.qdrant_url is None else None:
        try:
            return _ask(server, request, picture, settings)
        except _NotReady as error:  # it starts or ends just now
            if time.monotonic() > deadline:
                raise StoreUnavailableError(f"the server at {server.url} does not answer: {error}") from None
            time.sleep(SERVER_POLL_S)
    return asyncio.run(_search_here(request, settings))


def _request(text: str | None, picture: bytes | None, without: str | None, limit: int) -> SearchRequest:
    terms: list[dict[str, Any]] = []
    if text is not None:
        terms.append({"text": text})
    if picture is not None:
        terms.append({"image_base64": base64.b64encode(picture).decode("ascii")})
    if without is not None:
        terms.append({"text": without, "weight": WITHOUT_WEIGHT})
    if text is None and picture is None:
        raise UsageError("say what to search for: TEXT, --image FILE, or both")
    try:
        return SearchRequest.model_validate({"terms": terms, "limit": limit})
    except ValidationError as error:
        first = error.errors()[0]
        raise QueryError(f"{first['loc'][-1]}: {first['msg'].removeprefix('Value error, ')}") from None


def _read(path: Path, settings: Settings) -> bytes:
    """The picture, which is as large as a server takes it, whether one runs or not."""
    limit_mb = min(settings.image.max_image_mb, settings.serve.max_upload_mb)
    try:
        if path.stat().st_size > limit_mb * 1e6:
            raise UsageError(f"{path} is larger than the limit of {limit_mb:g} MB for a search")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None


def _ask(
    server: RunningServer, request: SearchRequest, picture: bytes | None, settings: Settings
) -> list[dict[str, Any]]:
    body = request.model_dump(exclude_defaults=True)
    body["terms"] = [term for term in body["terms"] if "image_base64" not in term]
    body["limit"] = request.limit
    body["collection"] = settings.store.collection
    try:
        answer = _post(server, body, picture)
        document = answer.json()
    except httpx.TimeoutException as error:
        raise StoreUnavailableError(f"the server at {server.url} does not answer: {error}") from None
    except (
        httpx.TransportError,
        ValueError,
    ) as error:  # Ray's proxy answers in plain text before it knows a route
        raise _NotReady(str(error)) from None
    except httpx.HTTPError as error:
        raise StoreUnavailableError(f"the server at {server.url} does not answer: {error}") from None
    if answer.status_code != httpx.codes.OK:
        raise SearchError(str(document.get("detail") or document.get("title") or answer.reason_phrase))
    hits: list[dict[str, Any]] = document["hits"]
    return hits


def _post(server: RunningServer, body: dict[str, Any], picture: bytes | None) -> httpx.Response:
    """With a picture as it is, where there is one: base64 would make it a third larger."""
    options: dict[str, Any] = {"timeout": SERVER_TIMEOUT_S, "trust_env": False}
    if picture is None:
        return httpx.post(f"{server.url}/api/search", json=body, **options)
    form = {"query": json.dumps(body)}
    return httpx.post(f"{server.url}/api/search/image", files={"image": picture}, data=form, **options)


async def _search_here(request: SearchRequest, settings: Settings) -> list[dict[str, Any]]:
    from cli.local_search import local_search

    async with command_store(settings) as store:
        search = await local_search(store, settings)
        response = await search.service.search(request)
    return [hit.model_dump() for hit in response.hits]
