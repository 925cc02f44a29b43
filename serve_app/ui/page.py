"""The web page: which click or key leads to which search, and what it changes on the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from serve_app.ui import results
from serve_app.ui.answers import SearchCallable, answer
from serve_app.ui.latest import Latest
from serve_app.ui.layout import Fields, lay_out
from serve_app.ui.requests import BALANCED, DEFAULT_LIMIT, Form, Similar, search_request

__all__ = ["TITLE", "SearchCallable", "build_page"]

TITLE = "Image Search"
_KEEP_UPLOADS_S = 3600

Updates = dict[Any, Any]


def build_page(search: SearchCallable, *, examples: Sequence[str], max_results: int = 40) -> gr.Blocks:
    """The page as Gradio blocks, to be mounted by `mount_page`.

    `search` takes a search request of the HTTP contract and gives its answer; it raises
    `search_core.errors.SearchError` with words for people. It must hold no state of a visitor.
    """
    blocks: gr.Blocks = gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(_KEEP_UPLOADS_S, _KEEP_UPLOADS_S),
    )
    with blocks:
        Wiring(search, lay_out(examples, max_results), max_results).connect()
    blocks.queue(default_concurrency_limit=None, api_open=False)
    return blocks


class Wiring:
    """Connects the fields. It is shared by all visitors; what one visitor does lives in `gr.State`."""

    def __init__(self, search: SearchCallable, fields: Fields, max_results: int) -> None:
        self._search = search
        self._fields = fields
        self._max_results = max_results
        self._latest = gr.State(Latest())
        self._similar = gr.State(None)

    def connect(self) -> None:
        """Create the event listeners."""
        on = self._fields
        asked = [on.text.submit, on.without.submit, on.search.click]
        self._listen(asked, self._on_search)
        self._listen([on.picture.upload], self._on_picture)
        self._listen([on.weight.release, on.limit.release, on.picture.clear], self._on_adjust)
        self._listen([on.examples.select], self._on_example)
        self._listen([on.results.select], self._on_more)
        self._listen([on.similar.clear], self._on_drop_similar)
        self._listen([on.clear.click], self._on_clear)

    def _listen(self, triggers: list[Any], handler: Any) -> None:
        on = self._fields
        gr.on(
            triggers,
            handler,
            inputs=[self._latest, self._similar, on.text, on.without, on.picture, on.weight, on.limit],
            outputs=[
                self._similar, on.text, on.without, on.picture, on.weight, on.limit,
                on.similar, on.status, on.results,
            ],
            preprocess=False,  # the upload stays a path in Gradio's own folder: never decoded here
            show_progress="hidden",
            trigger_mode="multiple",
            concurrency_limit=None,
            api_visibility="private",
        )  # fmt: skip

    async def _on_search(self, latest: Latest, *values: Any) -> AsyncIterator[Updates]:
        async for updates in self._run(latest, await _form(*values)):
            yield updates

    async def _on_picture(self, latest: Latest, *values: Any) -> AsyncIterator[Updates]:
        """A new picture takes the place of the one that more was asked of."""
        form = await _form(None, *values[1:])
        async for updates in self._run(latest, form, self._show_similar(None)):
            yield updates

    async def _on_adjust(self, latest: Latest, *values: Any) -> AsyncIterator[Updates]:
        """A slider or a removed picture: search again if there is still something to look for."""
        form = await _form(*values)
        if search_request(form, self._max_results) is None:
            latest.stop()
            yield self._start_again()
            return
        async for updates in self._run(latest, form):
            yield updates

    async def _on_example(self, event: gr.EventData, latest: Latest, *values: Any) -> AsyncIterator[Updates]:
        """An example is a whole query of its own: it replaces what was asked before."""
        text = str(_event_data(event).get("text", ""))
        on = self._fields
        form = Form(text=text, weight=BALANCED, limit=_limit(values))
        changes = {on.text: text, on.without: "", on.picture: None, **self._show_similar(None)}
        async for updates in self._run(latest, form, changes):
            yield updates

    async def _on_more(self, event: gr.EventData, latest: Latest, *values: Any) -> AsyncIterator[Updates]:
        """More like one of the results: that picture takes the place of words and picture."""
        similar = Similar.from_event(_event_data(event))
        if similar is None:
            return
        on = self._fields
        form = Form(similar=similar, without=str(values[2] or ""), limit=_limit(values))
        changes = {on.text: "", on.picture: None, **self._show_similar(similar)}
        async for updates in self._run(latest, form, changes):
            yield updates

    async def _on_drop_similar(self, latest: Latest, *values: Any) -> AsyncIterator[Updates]:
        yield self._show_similar(None)
        async for updates in self._on_adjust(latest, None, *values[1:]):
            yield updates

    async def _on_clear(self, latest: Latest, *_values: Any) -> Updates:
        latest.stop()
        on = self._fields
        return {
            on.text: "",
            on.without: "",
            on.picture: None,
            on.weight: BALANCED,
            on.limit: min(DEFAULT_LIMIT, self._max_results),
            **self._show_similar(None),
            **self._start_again(),
        }

    async def _run(
        self, latest: Latest, form: Form, changes: Updates | None = None
    ) -> AsyncIterator[Updates]:
        """Show that a search is running, then its answer, unless a newer search has begun."""
        on = self._fields
        request = search_request(form, self._max_results)
        if request is None:
            latest.stop()
            words = results.message_html(*results.NOTHING_ASKED)
            yield {**(changes or {}), on.status: "", on.results: words}
            return
        yield {**(changes or {}), on.status: results.busy_html()}
        answered = await latest.run(answer(self._search, request))
        if answered is not None:
            yield {on.status: answered.status, on.results: answered.results}

    def _show_similar(self, similar: Similar | None) -> Updates:
        return {self._similar: similar, self._fields.similar: results.similar_html(similar)}

    def _start_again(self) -> Updates:
        on = self._fields
        return {on.status: "", on.results: results.message_html(*results.START)}


async def _form(
    similar: Similar | None, text: Any, without: Any, picture: Any, weight: Any, limit: Any
) -> Form:
    """The page's fields as they came from the browser. The upload is read now: it is on this machine only."""
    path = picture.get("path") if isinstance(picture, dict) else None
    return Form(
        text=str(text or ""),
        without=str(without or ""),
        picture=await asyncio.to_thread(Path(path).read_bytes) if path else None,
        similar=similar,
        weight=float(weight if weight is not None else BALANCED),
        limit=int(limit or DEFAULT_LIMIT),
    )


def _limit(values: Sequence[Any]) -> int:
    return int(values[-1] or DEFAULT_LIMIT)


def _event_data(event: gr.EventData) -> dict[str, Any]:
    data = event._data
    return data if isinstance(data, dict) else {}
