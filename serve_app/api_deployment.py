"""The ingress of the search application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from search_core.model import ModelSpec
from search_core.settings import Settings
from serve_app.access import visiting
from serve_app.admission import Admission, ApiConfig
from serve_app.api import build_api
from serve_app.handles import Remote, everywhere, method
from serve_app.library import Library
from serve_app.logs import log_through_serve
from serve_app.metrics import CollectionMetrics, RequestMetrics
from serve_app.pins import Pins
from serve_app.routes_search import parse_request
from serve_app.service import SearchService
from serve_app.status import Status
from serve_app.watching import watch_published


class SearchApi:
    """The HTTP API, and `search` for other applications."""

    def __init__(
        self,
        first: ModelSpec,
        settings: Settings,
        texts: DeploymentHandle[Any],
        images: DeploymentHandle[Any],
        retrieval: DeploymentHandle[Any],
    ) -> None:
        log_through_serve()
        store = Remote(retrieval)
        self._metrics = RequestMetrics()
        self._admission = Admission(ApiConfig().max_in_flight)
        encode_image = method(images, "encode")
        prepare_texts, prepare_images = everywhere(texts, "prepare"), everywhere(images, "prepare")

        async def prepare(spec: ModelSpec) -> None:
            await asyncio.gather(prepare_texts(spec), prepare_images(spec))

        pins = Pins(store, prepare)
        self._service = SearchService(first, settings, method(texts, "encode"), encode_image, store, pins)
        self._app = build_api(
            self._service,
            Library(settings, encode_image, store, pins),
            Status(
                first,
                "qdrant" if settings.store.qdrant_url else "embedded",
                Remote(texts),
                Remote(images),
                store,
                pins,
            ),
            settings,
            self._admission,
            self._metrics.count,
            _showing(store),
        )

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Takes the limit of the Serve config."""
        self._admission.max_in_flight = ApiConfig(**user_config).max_in_flight

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    async def search(self, request: dict[str, Any]) -> dict[str, Any]:
        """A search request of the HTTP contract to its response, both as plain values."""
        with visiting("CALL", "/search", self._metrics.count):
            response = await self._service.search(parse_request(request))
        return response.model_dump(mode="json")


def _showing(store: Remote) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Shows the published collection to the metrics while the application runs."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(watch_published(store, CollectionMetrics().show))
        yield
        task.cancel()

    return lifespan
