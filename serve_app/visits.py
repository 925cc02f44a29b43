"""A request as the parts that answer it note it. Knows nothing of Ray; `serve_app.access` tells of it at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from search_core.query import SearchRequest

OK = "ok"


@dataclass
class Visit:
    """One request. `kind` is None for what is no search; `outcome` is `ok` or the code of a problem."""

    kind: str | None = None
    outcome: str = OK
    status: int | None = None
    collection: str | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    cache_hits: int = 0
    cache_misses: int = 0


_CURRENT: ContextVar[Visit | None] = ContextVar("visit", default=None)


def visit() -> Visit:
    """The request that is being answered; outside of one, a visit that nobody reads."""
    return _CURRENT.get() or Visit()


@contextmanager
def entered() -> Iterator[Visit]:
    """A new request, which `visit` gives in this task and in those that it starts."""
    current = Visit()
    token = _CURRENT.set(current)
    try:
        yield current
    finally:
        _CURRENT.reset(token)


def kind_of(request: SearchRequest) -> str:
    """What a search asks with: one `text`, `image` or `id`, or `combined`.

    Liked and disliked pictures are ids.
    """
    kinds = ["id" if term.image_id else "text" if term.text else "image" for term in request.terms]
    kinds += ["id"] * (len(request.like) + len(request.dislike))
    return kinds[0] if len(kinds) == 1 else "combined"
