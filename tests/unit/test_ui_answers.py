"""Errors in words, newest search first, and a page that names no other host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from search_core.errors import ImageError, NothingPublishedError, QueryError, SearchError
from serve_app.ui.answers import OUR_FAULT, answer, error_words
from serve_app.ui.latest import Latest
from serve_app.ui.mount import self_contained
from serve_app.ui.results import NOTHING_INDEXED

FOUND = {"hits": [], "total_indexed": 5, "model": "builtin", "timings_ms": {"total": 4}}


class WrappedError(QueryError):
    """An error as Ray hands it over: its text is a traceback, the original is its cause."""

    def __init__(self, cause: SearchError) -> None:
        super().__init__("Traceback (most recent call last): ...")
        self.cause = cause


def searching(outcome: dict[str, Any] | Exception) -> Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]:
    async def search(_request: dict[str, Any]) -> dict[str, Any]:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return search


def test_an_answer_has_a_status_and_results() -> None:
    shown = asyncio.run(answer(searching(FOUND), {}))
    assert "of 5 pictures" in shown.status
    assert "No picture matches" in shown.results


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (QueryError("Use at most 60 words."), "Use at most 60 words."),
        (ImageError("truncated", "The picture is cut short."), "The picture is cut short."),
        (WrappedError(QueryError("Use at most 60 words.")), "Use at most 60 words."),
    ],
)
def test_errors_meant_for_people_are_shown(error: Exception, words: str) -> None:
    shown = asyncio.run(answer(searching(error), {}))
    assert words in shown.results
    assert 'role="alert"' in shown.results
    assert "Traceback" not in shown.results


def test_nothing_published_is_no_error_but_an_empty_place() -> None:
    shown = asyncio.run(answer(searching(NothingPublishedError("no such collection")), {}))
    assert NOTHING_INDEXED[0] in shown.results
    assert 'role="alert"' not in shown.results


def test_other_errors_are_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        shown = asyncio.run(answer(searching(RuntimeError("password=hunter2")), {}))
    assert OUR_FAULT in shown.results
    assert "hunter2" not in shown.results
    assert "hunter2" in caplog.text


def test_an_error_without_words_has_none() -> None:
    assert error_words(QueryError("")) is None
    assert error_words(ValueError("x")) is None


def test_an_overtaken_search_answers_nothing() -> None:
    async def scenario() -> tuple[str | None, str | None, bool]:
        latest, cancelled = Latest(), asyncio.Event()

        async def slow() -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return "old"

        async def quick() -> str:
            return "new"

        first = asyncio.create_task(latest.run(slow()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second = await latest.run(quick())
        return await first, second, cancelled.is_set()

    assert asyncio.run(scenario()) == (None, "new", True)


def test_an_overtaken_search_that_fails_says_nothing() -> None:
    async def scenario() -> str | None:
        latest = Latest()

        async def stubborn() -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise QueryError("too late") from None
            return "old"

        first = asyncio.create_task(latest.run(stubborn()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        latest.stop()
        return await first

    assert asyncio.run(scenario()) is None


def test_the_newest_search_may_fail_aloud() -> None:
    async def failing() -> str:
        raise QueryError("no")

    with pytest.raises(QueryError):
        asyncio.run(Latest().run(failing()))


def test_the_page_names_no_other_host() -> None:
    html = (
        b'<html><head><meta charset="utf-8" />\n<meta\n  property="og:image"\n  content="https://a.example/x.jpg"\n/>'
        b'<meta name="twitter:site" content="@x" /><link rel="manifest" href="/manifest.json" /></head><body></body>'
    )
    page = self_contained(html)
    assert b"https://" not in page
    assert b"manifest" not in page
    assert b"<title>Image Search</title>" in page
    assert page.index(b"charset") < page.index(b"<title>")
