"""What is told of each request: kind, outcome and timings for the metrics, a line for the log, its id in problems."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from search_core.errors import NotFoundError, StoreUnavailableError
from serve_app.access import visiting
from serve_app.visits import Visit, visit
from tests.fixtures.api_app import ApiUnderTest, picture, running_api

RED = base64.b64encode(picture("red")).decode()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiUnderTest]:
    async with running_api(tmp_path) as api:
        yield api


@pytest.mark.parametrize(
    ("request_body", "kind"),
    [
        ({"terms": [{"text": "red"}]}, "text"),
        ({"terms": [{"image_base64": RED}]}, "image"),
        ({"terms": [{"image_id": "an id"}]}, "id"),
        ({"like": ["an id"]}, "id"),
        ({"terms": [{"text": "red"}], "like": ["an id"]}, "combined"),
        ({"terms": [{"text": "red"}, {"text": "blue", "weight": -0.5}]}, "combined"),
    ],
)
async def test_a_search_is_told_of_by_its_kind(
    api: ApiUnderTest, request_body: dict[str, Any], kind: str
) -> None:
    body = _with_ids(request_body, api.ids["red"][0])
    assert (await api.search(**body)).status_code == 200
    (told,) = api.visits
    assert (told.kind, told.outcome, told.status, told.collection) == (kind, "ok", 200, api.collection)
    assert told.timings_ms.keys() == {"encode", "retrieve", "total"}


@pytest.mark.parametrize(
    ("request_body", "kind", "outcome"),
    [
        ({"terms": [{"text": ""}]}, "unknown", "invalid-request"),
        ({"terms": [{"image_base64": "AAAA"}]}, "image", "image"),
        ({"terms": [{"text": "red"}], "collection": "nope"}, "text", "not-found"),
    ],
)
async def test_a_refused_search_is_told_of_by_its_problem(
    api: ApiUnderTest, request_body: dict[str, Any], kind: str, outcome: str
) -> None:
    answer = await api.search(**request_body)
    (told,) = api.visits
    assert (told.kind, told.outcome, told.status) == (kind, outcome, answer.status_code)
    assert answer.json()["type"].endswith(f":{outcome}")


async def test_one_that_is_refused_at_the_door_is_told_of_too(api: ApiUnderTest) -> None:
    api.admission.max_in_flight = 0
    await api.search(terms=[{"text": "red"}])
    assert (api.visits[0].kind, api.visits[0].outcome) == ("unknown", "overloaded")


async def test_an_error_that_nobody_foresaw(api: ApiUnderTest) -> None:
    api.encoders.fail = RuntimeError("a bug")
    await api.search(terms=[{"text": "red"}])
    assert (api.visits[0].outcome, api.visits[0].status) == ("internal", 500)


async def test_texts_of_the_cache_are_counted(api: ApiUnderTest) -> None:
    await api.search(terms=[{"text": "red"}])
    await api.search(terms=[{"text": "red"}, {"text": "blue"}])
    assert [(one.cache_hits, one.cache_misses) for one in api.visits] == [(0, 1), (1, 1)]


async def test_what_is_no_search_has_no_kind(api: ApiUnderTest) -> None:
    await api.client.get("/status")
    assert [one.kind for one in api.visits] == [None]


async def test_a_line_for_each_request(api: ApiUnderTest, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="serve_app.access"):
        await api.search(terms=[{"text": "red"}])
        await api.client.get("/health")
        await api.client.get("/nope")
    search, nope = [vars(record) for record in caplog.records if record.name == "serve_app.access"]
    assert (search["method"], search["path"], search["status"], search["kind"]) == (
        *("POST", "/api/search"),
        *(200, "text"),
    )
    assert (nope["status"], nope["outcome"]) == (404, "not-found")
    assert "kind" not in nope


async def test_a_problem_names_the_request(api: ApiUnderTest) -> None:
    answer = await api.client.get("/nope", headers={"x-request-id": "one-two"})
    assert answer.json()["request_id"] == "one-two"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(NotFoundError("gone"), "not-found"), (StoreUnavailableError("away"), "store-unavailable")],
)
def test_an_error_that_leaves_a_visit_is_its_outcome(error: Exception, outcome: str) -> None:
    """As for the page, which has no problems but errors."""
    told: list[Visit] = []
    with pytest.raises(type(error)), visiting("CALL", "/search", told.append):
        raise error
    assert (told[0].kind, told[0].outcome) == ("unknown", outcome)


def test_outside_of_a_request_notes_go_nowhere() -> None:
    visit().cache_hits += 1
    assert visit().cache_hits == 0


def _with_ids(body: dict[str, Any], id: str) -> dict[str, Any]:
    terms = [{**term, **({"image_id": id} if "image_id" in term else {})} for term in body.get("terms", [])]
    return {"terms": terms, "like": [id for _ in body.get("like", [])]}
