"""The HTTP API as a FastAPI application. It knows nothing of Ray: tests run it as it is.

Where a route takes query parameters, unknown ones are refused like unknown fields, so that a misspelt one is noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI

from search_core.settings import Settings
from serve_app import problems
from serve_app.access import AccessLog
from serve_app.admission import Admission, AdmissionGate
from serve_app.body_limit import BodyLimit
from serve_app.browsers import OwnPagesOnly
from serve_app.library import Library
from serve_app.routes_images import image_routes
from serve_app.routes_search import search_routes
from serve_app.routes_store import store_routes
from serve_app.service import SearchService
from serve_app.status import Status
from serve_app.tracing import FASTAPI
from serve_app.visits import Visit

BODY_SLACK_BYTES = 100_000
"""What a body may have beyond the largest picture: multipart boundaries and the other fields."""

DESCRIPTION = "Find pictures by text, by picture, or by both. Errors are RFC 9457 problem details."
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, description in (
        ("4XX", "The request cannot be answered as asked"),
        ("5XX", "The server cannot answer now; Retry-After says when to try again"),
    )
}


class Api(FastAPI):
    """A FastAPI application whose OpenAPI document knows problem details."""

    def openapi(self) -> dict[str, Any]:
        """The document, with the schema that every error response refers to."""
        if self.openapi_schema is None:
            document = super().openapi()
            problem = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            document["components"]["schemas"] |= {**problem.pop("$defs"), "Problem": problem}
        return super().openapi()


def build_api(
    service: SearchService,
    library: Library,
    status: Status,
    settings: Settings,
    admission: Admission,
    count: Callable[[Visit], None],
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """The application, to be mounted at /api; `count` is called with each request that has ended."""
    app = Api(
        title="Image Search",
        description=DESCRIPTION,
        version="1",
        openapi_url="/openapi.json",
        docs_url=None,  # both load their code from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses=PROBLEM_RESPONSES,
        lifespan=lifespan,
        telemetry=FASTAPI,
    )
    app.include_router(search_routes(service, settings))
    app.include_router(image_routes(library))
    app.include_router(store_routes(status))
    app.add_middleware(BodyLimit, max_bytes=int(settings.serve.max_upload_mb * 1e6) + BODY_SLACK_BYTES)
    app.add_middleware(OwnPagesOnly)
    app.add_middleware(AdmissionGate, admission=admission)
    problems.install(app)
    app.add_middleware(AccessLog, count=count)
    return app
