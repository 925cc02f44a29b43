"""The published collection as the metrics see it, spans and log lines in processes that are no replicas, and what
dashboard and alert rules say in words.
"""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from search_core.collections import run_ended
from search_core.errors import NothingPublishedError, StoreUnavailableError, UsageError
from search_core.model import resolve_model
from search_core.settings import TracingSettings
from serve_app import logs, tracing
from serve_app.messages import CollectionInfo, Pin
from serve_app.problems import TITLES
from serve_app.watching import watch_published
from tests.fixtures.api_app import running_api
from tests.fixtures.monitoring import Exported, asked, panels, rules, selectors

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "monitoring.md"


class Lookup:
    """Fails as it is told to, and then answers."""

    def __init__(self, errors: list[Exception]) -> None:
        self.errors = errors

    async def pin(self, name: str | None, fresh: bool = False) -> Pin:
        if self.errors:
            raise self.errors.pop(0)
        return Pin("images__1", resolve_model("fake"))

    async def collection(self, name: str) -> CollectionInfo:
        return CollectionInfo(name, 7, "ready", "fake", "print", 64)


async def shown_by(lookup: Lookup) -> CollectionInfo:
    shown: asyncio.Future[CollectionInfo] = asyncio.get_running_loop().create_future()

    def show(collection: CollectionInfo) -> None:
        if not shown.done():
            shown.set_result(collection)

    task = asyncio.create_task(watch_published(lookup, show, every_s=0))
    try:
        return await shown
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_the_collection_is_shown_whatever_failed_before() -> None:
    errors = [NothingPublishedError("none"), StoreUnavailableError("away"), RuntimeError("a bug")]
    assert (await shown_by(Lookup(errors))).count == 7


async def test_the_end_of_a_run_is_shown(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.store.annotate(api.collection, run_ended(quarantined=3))
        found = await api.retrieval.collection(api.collection)
        (listed,) = (await api.client.get("/collections")).json()["collections"]
    assert (listed["quarantined"], listed["checked"]) == (3, found.checked)
    assert found.checked is not None


def test_without_tracing_nothing_is_imported_for_it() -> None:
    program = (
        "import sys; from serve_app.tracing import span\n"
        "with span('a', size=1): print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_tracing_without_its_exporter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"\[tracing\]"):
        tracing.export_to(TracingSettings(endpoint="http://127.0.0.1:4318/v1/traces"))


def test_lines_of_ours_go_where_those_of_serve_go(caplog: pytest.LogCaptureFixture) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    ours = [logging.getLogger(name) for name in logs.OURS]
    before = logs.SERVE.handlers, logs.SERVE.level, logs.SERVE.propagate
    logs.SERVE.handlers, logs.SERVE.propagate = [handler], False
    logs.SERVE.setLevel(logging.INFO)
    try:
        logs.log_through_serve()
        logs.log_through_serve()
        logging.getLogger("serve_app.pins").info("once")
        logging.getLogger("serve_app.pins").debug("never")
    finally:
        logs.SERVE.handlers, level, logs.SERVE.propagate = before
        logs.SERVE.setLevel(level)
        for logger in ours:
            logger.handlers.clear()
            logger.setLevel(logging.NOTSET)
    assert [record.getMessage() for record in records] == ["once"]


def test_every_expression_is_read_and_names_outcomes_that_exist() -> None:
    outcomes = {
        value
        for selector in asked()
        for label, operator, given in selector.matchers
        if label == "outcome" and operator != "MatchOp.NotEqual"
        for value in given.split("|")
    }
    assert outcomes
    assert outcomes <= TITLES.keys()
    with pytest.raises(ValueError, match="parenthesis"):
        selectors("sum by (")


@pytest.mark.parametrize(
    ("exported", "found"),
    [
        ({"a_total": [{"stage": "encode", "kind": "text"}]}, True),
        ({"b_total": [{"stage": "encode", "kind": "text"}]}, False),
        ({"a_total": [{"kind": "text"}]}, False),
        ({"a_total": [{"stage": "encode"}]}, False),
        ({"a_total": [{"stage": "encode", "kind": "image"}]}, False),
    ],
    ids=["there", "renamed", "without a label", "without a matched label", "with other values"],
)
def test_what_is_not_exported_as_an_expression_asks_for_it_is_missed(
    exported: dict[str, list[dict[str, str]]], found: bool
) -> None:
    wanted = selectors('sum by (stage, job) (rate(a_total{kind=~"text|id"}[5m]))')
    assert (Exported("", wanted, exported).missing() == []) is found


def test_panels_have_titles_and_places_of_their_own() -> None:
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()]
    assert len(set(places)) == len(places)


def test_the_page_explains_every_alert_and_every_metric_of_ours() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| `([A-Z]\w+)` \|", page, re.MULTILINE) == [rule["alert"] for rule in rules()]
    listed = set(re.findall(r"^\| `(ray_image_search_\w+)` \|", page, re.MULTILINE))
    used = {re.sub(r"_(bucket|count)$", "", one.metric) for one in asked()}
    assert {name for name in used if name.startswith("ray_image_search_")} == listed
