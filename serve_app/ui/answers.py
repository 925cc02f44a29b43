"""One search as the page sees it: the answer, or words that say why there is none."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from search_core.errors import NothingPublishedError, SearchError
from serve_app.ui import results

logger = logging.getLogger(__name__)

SearchCallable = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

OUR_FAULT = "Something went wrong on our side. Try again."


@dataclass(frozen=True)
class Answer:
    """What the page shows after a search, as HTML."""

    status: str
    results: str


async def answer(search: SearchCallable, request: dict[str, Any]) -> Answer:
    """Search, and put the outcome into HTML. Never raises for a search that failed."""
    try:
        response = await search(request)
        return Answer(results.status_html(response), results.results_html(response))
    except Exception as error:  # the page is where an error ends: people get words, the log the rest
        return Answer("", _failure_html(error))


def error_words(error: Exception) -> str | None:
    """The words an error carries for people, None when it was not meant for them."""
    meant = _meant_for_people(error)
    return str(meant).strip() or None if meant else None


def _failure_html(error: Exception) -> str:
    if isinstance(_meant_for_people(error), NothingPublishedError):
        return results.message_html(*results.NOTHING_INDEXED)
    words = error_words(error)
    if words is None:
        logger.error("a search from the page failed", exc_info=error)
    return results.error_html(words or OUR_FAULT)


def _meant_for_people(error: Exception) -> SearchError | None:
    """Ray wraps what a replica raised: the wrapper's text is a traceback, the original is its `cause`."""
    candidates = (getattr(error, "cause", None), error)
    return next((candidate for candidate in candidates if isinstance(candidate, SearchError)), None)
