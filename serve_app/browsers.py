"""Keeps other sites' pages from writing to a server that runs on their visitor's machine."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.problems import problem

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FOREIGN = frozenset({"cross-site", "same-site"})


class OwnPagesOnly:
    """ASGI middleware: refuses unsafe requests that a browser says come from a page of another origin."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            request = Request(scope)
            if request.headers.get("sec-fetch-site") in FOREIGN:
                response = problem(request, 403, None, "pages of other sites may not use this API")
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)
