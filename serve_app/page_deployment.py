"""The ingress of the page's application."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from ray import serve

from search_core.heavy_imports import collector_paused
from search_core.settings import Settings
from serve_app.handles import method
from serve_app.logs import log_through_serve


class Page:
    """The page. It asks the search application by handle and runs no model.

    One replica only: Gradio keeps a visitor's session and uploads where they began.
    """

    def __init__(
        self, settings: Settings, examples: Sequence[str], search_deployment: str, search_app: str
    ) -> None:
        log_through_serve()
        with collector_paused():
            from serve_app.ui import build_page, mount_page  # Gradio: seconds to import, and needed only here

        search = method(serve.get_deployment_handle(search_deployment, search_app), "search")
        outer = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        self._app = mount_page(
            outer,
            build_page(search, examples=examples),
            max_picture_mb=int(settings.serve.max_upload_mb),
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app
