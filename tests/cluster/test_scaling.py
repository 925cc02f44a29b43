"""Each stage grows by its own load, no other does, and all shrink again; no request fails while they do."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.cluster.conftest import Rehearsal
from tests.fixtures.api_app import picture
from tests.fixtures.load import Ask, load

CLIENTS = 12
STAGES = ("Api", "ImageEncoder", "Retrieval", "TextEncoder")
SLOW_S = 0.3


def by_text(client: httpx.Client, number: int) -> httpx.Response:
    return client.get("/search", params={"q": f"red {number}", "limit": 3})


def by_picture(client: httpx.Client, number: int) -> httpx.Response:
    colour = (250 - number % 5, number % 7, number // 35 % 11)
    return client.post("/search/image", files={"image": picture(colour)}, data={"query": '{"limit":3}'})


def by_id(ids: list[str]) -> Ask:
    def ask(client: httpx.Client, number: int) -> httpx.Response:
        return client.post("/search", json={"terms": [{"image_id": ids[number % len(ids)]}], "limit": 2})

    return ask


def red(ids: list[str]) -> Callable[[int, httpx.Response], str | None]:
    """What is wrong with an answer that should have red pictures only."""

    def check(number: int, answer: httpx.Response) -> str | None:
        found = [hit["id"] for hit in answer.json()["hits"]]
        return None if found and set(found) <= set(ids) else f"found {found}"

    return check


def grows_alone(rehearsal: Rehearsal, stage: str, ask: Ask) -> None:
    cluster = rehearsal.cluster
    cluster.until(lambda now: all(now.count(one) == 1 for one in STAGES) and not now.stopping)
    most = dict.fromkeys(STAGES, 1)
    with load(cluster.urls, CLIENTS, ask, check=red(rehearsal.ids["red"])) as running:
        while most[stage] < 2:
            now = cluster.details()
            most = {one: max(most[one], now.count(one)) for one in STAGES}
            running.until_answered(10)
        running.until_answered(100)  # of which some by the new replica
        most = {one: max(most[one], cluster.details().count(one)) for one in STAGES}
    assert {one for one in STAGES if most[one] > 1} == {stage}, most


def test_pictures_grow_the_image_encoders(rehearsal: Rehearsal) -> None:
    grows_alone(rehearsal, "ImageEncoder", by_picture)


@pytest.mark.long
def test_texts_grow_the_text_encoders(rehearsal: Rehearsal) -> None:
    grows_alone(rehearsal, "TextEncoder", by_text)


@pytest.mark.long
def test_a_slow_store_grows_retrieval(rehearsal: Rehearsal) -> None:
    rehearsal.store.delay_s = SLOW_S
    try:
        grows_alone(rehearsal, "Retrieval", by_id(rehearsal.ids["red"]))
    finally:
        rehearsal.store.delay_s = 0.0


def test_all_shrink_again(rehearsal: Rehearsal) -> None:
    rehearsal.cluster.until(lambda now: now.counts() == {**dict.fromkeys(STAGES, 1), "Page": 1})
