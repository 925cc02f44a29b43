"""What is told of each request at its end: a line of the log, and what the metrics count.

A line has the fields `method` (CALL for a search of the page), `path`, `status`, `outcome` and `total_ms`, and for a
search also `kind`, `collection` and `timings_ms`; Serve adds `request_id`. Its level is INFO, DEBUG for the probes of a
load balancer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from search_core.errors import SearchError
from serve_app.problems import code_of
from serve_app.visits import Visit, entered

PROBES = ("/health", "/ready")
SEARCHES = ("/search", "/search/image")
UNKNOWN = "unknown"
"""The kind of a search that was refused before it was understood."""

logger = logging.getLogger(__name__)


class AccessLog:
    """ASGI middleware, outside all others: a visit for each request, told of when its answer has gone."""

    def __init__(self, app: ASGIApp, count: Callable[[Visit], None]) -> None:
        self.app = app
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with visiting(scope["method"], scope["path"], self._count) as visit:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    visit.status = message["status"]
                await send(message)

            await self.app(scope, receive, watched)


@contextmanager
def visiting(method: str, path: str, count: Callable[[Visit], None]) -> Iterator[Visit]:
    """A visit, from its beginning until it is counted and logged; an error that leaves it is its outcome."""
    began = time.perf_counter()
    with entered() as visit:
        if path.endswith(SEARCHES):
            visit.kind = UNKNOWN
        try:
            yield visit
        except BaseException as error:
            visit.outcome = _outcome(error)
            raise
        finally:
            count(visit)
            _log(method, path, visit, (time.perf_counter() - began) * 1000)


def _outcome(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return code_of(error) if isinstance(error, SearchError) else "internal"


def _log(method: str, path: str, visit: Visit, total_ms: float) -> None:
    level = logging.DEBUG if path.endswith(PROBES) else logging.INFO
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, Any] = {
        "method": method,
        "path": path,
        "status": visit.status,
        "outcome": visit.outcome,
        "total_ms": round(total_ms, 2),
    }
    if visit.kind is not None:
        fields |= {"kind": visit.kind, "collection": visit.collection, "timings_ms": visit.timings_ms}
    logger.log(level, "%s %s %s %.1f ms", method, path, visit.status or visit.outcome, total_ms, extra=fields)
