"""Searching over HTTP: kinds of terms, feedback, filters, paging, explanations."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from search_core.errors import OverloadedError, StoreUnavailableError
from search_core.fake import COLOURS
from search_core.points import Batch, point_id
from search_core.store import new_collection_name
from tests.fixtures.api_app import PER_COLOUR, ApiUnderTest, picture, running_api

TOTAL = PER_COLOUR * len(COLOURS)


@pytest.fixture(params=["edge", "memory"])
async def api(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ApiUnderTest]:
    async with running_api(tmp_path, request.param) as api:
        yield api


def image_term(colour: str) -> dict[str, str]:
    return {"image_base64": base64.b64encode(picture(colour)).decode()}


async def test_a_text_finds_pictures_of_it(api: ApiUnderTest) -> None:
    response = await api.search(terms=[{"text": "red"}], limit=PER_COLOUR)
    body = response.json()
    assert sorted(hit["id"] for hit in body["hits"]) == sorted(api.ids["red"])
    assert body["total_indexed"] == TOTAL
    assert (body["model"], body["collection"]) == ("fake", api.collection)
    assert set(body["timings_ms"]) == {"encode", "retrieve", "total"}
    hit = body["hits"][0]
    assert hit["score"] == pytest.approx(1.0, abs=1e-3)
    assert hit["score"] <= 1.0
    assert hit["uri"] == hit["payload"]["uri"]
    assert hit["payload"]["folder"] == "red"
    assert hit["image_url"] == f"/api/images/{hit['id']}/content"
    assert hit["thumbnail_url"] == f"/api/images/{hit['id']}/thumbnail"
    assert hit["relevance"] is None
    assert hit["explanation"] is None


async def test_every_road_leads_to_the_same_hits(api: ApiUnderTest) -> None:
    by_post = await api.hit_ids(terms=[{"text": "blue"}], limit=5)
    by_get = await api.client.get("/search", params={"q": " blue ", "limit": 5})
    assert [hit["id"] for hit in by_get.json()["hits"]] == by_post
    by_base64 = await api.hit_ids(terms=[image_term("blue")], limit=5)
    by_upload = await api.client.post(
        "/search/image", files={"image": picture("blue")}, data={"query": '{"limit":5}'}
    )
    assert [hit["id"] for hit in by_upload.json()["hits"]] == by_base64
    alone = await api.client.post("/search/image", files={"image": picture("blue")})
    assert [hit["id"] for hit in alone.json()["hits"]][:5] == by_base64
    assert set(by_base64[:PER_COLOUR]) == set(api.ids["blue"])


async def test_a_picture_with_words_and_filter(api: ApiUnderTest) -> None:
    query = '{"terms":[{"text":"red","weight":1.0}],"filter":{"folder":["magenta","green"]},"limit":3}'
    response = await api.client.post("/search/image", files={"image": picture("blue")}, data={"query": query})
    assert {hit["id"] for hit in response.json()["hits"]} == set(api.ids["magenta"])


async def test_a_negative_term_pushes_away(api: ApiUnderTest) -> None:
    plain = await api.hit_ids(terms=[{"text": "yellow"}], limit=TOTAL)
    pushed = await api.hit_ids(terms=[{"text": "yellow"}, {"text": "orange", "weight": -0.8}], limit=TOTAL)
    orange = api.ids["orange"][0]
    assert pushed.index(orange) > plain.index(orange)
    only_negative = await api.hit_ids(terms=[{"text": "white", "weight": -1.0}], limit=PER_COLOUR)
    assert set(only_negative) == set(api.ids["black"])


async def test_more_like_this_leaves_the_picture_itself_out(api: ApiUnderTest) -> None:
    first, *others = api.ids["cyan"]
    hits = await api.hit_ids(terms=[{"image_id": first}], limit=len(others))
    assert set(hits) == set(others)
    assert first not in await api.hit_ids(terms=[{"image_id": first}], limit=TOTAL)


async def test_feedback_moves_results_and_leaves_the_named_out(api: ApiUnderTest) -> None:
    liked, disliked = api.ids["green"][0], api.ids["red"][0]
    hits = await api.hit_ids(terms=[{"text": "yellow"}], like=[liked], dislike=[disliked], limit=TOTAL)
    assert liked not in hits
    assert disliked not in hits
    assert hits.index(api.ids["green"][1]) < hits.index(api.ids["red"][1])
    only_liked = await api.hit_ids(like=[liked, api.ids["green"][1]], limit=1)
    assert only_liked == [api.ids["green"][2]]


@pytest.mark.parametrize("size", [1, 4, 7])
async def test_pages_neither_repeat_nor_skip(api: ApiUnderTest, size: int) -> None:
    everything = await api.hit_ids(terms=[{"text": "red"}], limit=1000)
    assert len(everything) == TOTAL
    paged: list[str] = []
    while page := await api.hit_ids(terms=[{"text": "red"}], limit=size, offset=len(paged)):
        paged += page
    assert paged == everything


async def test_pages_of_pictures_that_are_all_the_same(api: ApiUnderTest) -> None:
    vector = (await api.encoders.text("purple")).vector
    ids = [point_id(f"file:///same/{number}.png") for number in range(60)]
    payloads = [{"uri": f"file:///same/{number}.png", "folder": "same"} for number in range(60)]
    await api.store.upsert(api.collection, Batch(ids, np.stack([vector] * 60), payloads))
    paged = [
        id
        for offset in range(0, 70, 7)
        for id in await api.hit_ids(
            terms=[{"text": "purple"}], filter={"folder": "same"}, limit=7, offset=offset
        )
    ]
    assert sorted(paged) == sorted(ids)


async def test_filters(api: ApiUnderTest) -> None:
    async def found(where: dict[str, object]) -> set[str]:
        return set(await api.hit_ids(terms=[{"text": "red"}], filter=where, limit=1000))

    assert await found({"folder": "blue"}) == set(api.ids["blue"])
    assert await found({"folder": ["blue", "red"]}) == {*api.ids["blue"], *api.ids["red"]}
    assert await found({"folder": "blue", "width": {"gte": 60}}) == {api.ids["blue"][2]}
    assert await found({"orientation": "square", "folder": "red"}) == {api.ids["red"][1]}
    assert await found({"width": 40, "folder": "red"}) == {api.ids["red"][0]}
    assert await found({"folder": "nowhere"}) == set()
    assert await found({"no such field": "x"}) == set()


async def test_min_score(api: ApiUnderTest) -> None:
    hits = (await api.search(terms=[{"text": "red"}], min_score=0.9, limit=1000)).json()["hits"]
    assert {hit["id"] for hit in hits} == set(api.ids["red"])
    assert (await api.search(terms=[{"text": "red"}], min_score=1.1)).json()["hits"] == []


async def test_an_explanation_adds_up_to_the_score(api: ApiUnderTest) -> None:
    response = await api.search(
        terms=[
            {"text": "red"},
            {"image_id": api.ids["blue"][0], "weight": 0.5},
            {"text": "dark", "weight": -0.2},
        ],
        like=[api.ids["magenta"][0]],
        explain=True,
    )
    for hit in response.json()["hits"]:
        kinds = [part["kind"] for part in hit["explanation"]]
        assert kinds == ["text", "image_id", "text", "like"]
        assert sum(part["contribution"] for part in hit["explanation"]) == pytest.approx(
            hit["score"], abs=1e-4
        )


async def test_a_collection_by_name_or_alias(api: ApiUnderTest) -> None:
    expected = await api.hit_ids(terms=[{"text": "red"}])
    assert await api.hit_ids(terms=[{"text": "red"}], collection="images") == expected
    assert await api.hit_ids(terms=[{"text": "red"}], collection=api.collection) == expected


async def test_a_switch_of_the_alias_is_seen(api: ApiUnderTest) -> None:
    assert len(await api.hit_ids(terms=[{"text": "red"}])) == 24
    empty = new_collection_name("images", api.encoders.spec, now=4e9)
    await api.store.create(empty, api.encoders.spec)
    await api.store.publish("images", empty)
    await api.store.drop(api.collection)
    assert await api.hit_ids(terms=[{"text": "red"}]) == []


async def test_texts_are_encoded_once(api: ApiUnderTest) -> None:
    for _ in range(3):
        await api.hit_ids(terms=[{"text": "red"}, {"text": " red "}])
    assert api.encoders.texts.count("red") <= 2


async def test_nothing_is_published_yet(tmp_path: Path) -> None:
    async with running_api(tmp_path, index=False) as api:
        for response in (
            await api.search(terms=[{"text": "red"}]),
            await api.client.get("/ready"),
            await api.client.post("/images", files={"image": picture("red")}),
        ):
            assert response.status_code == 503
            assert response.headers["retry-after"]
            assert "image-search index" in response.json()["detail"]
        assert (await api.client.get("/health")).status_code == 200
        assert (await api.client.get("/status")).json()["collection"] is None
        assert (await api.client.get("/collections")).json() == {"collections": []}


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (OverloadedError("too many requests at once"), 503, "too many"),
        (
            StoreUnavailableError("the Qdrant server at http://secret:6333 does not answer"),
            503,
            "does not answer",
        ),
        (RuntimeError("secret"), 500, "unexpected"),
    ],
)
async def test_trouble_behind_the_api(api: ApiUnderTest, error: Exception, status: int, words: str) -> None:
    api.encoders.fail = error
    response = await api.search(terms=[{"text": "red"}])
    assert response.status_code == status
    assert words in response.json()["detail"]
    assert "secret" not in response.text
    assert ("retry-after" in response.headers) == (status == 503)


async def test_embeddings(api: ApiUnderTest) -> None:
    body = {"texts": ["red", "blue"], "images_base64": [image_term("red")["image_base64"]]}
    answer = (await api.client.post("/embed", json=body)).json()
    assert (answer["model"], answer["dim"]) == ("fake", 64)
    assert len(answer["texts"]) == 2
    assert len(answer["images"]) == 1
    assert np.linalg.norm(answer["texts"][0]) == pytest.approx(1, abs=1e-5)
    assert np.dot(answer["texts"][0], answer["images"][0]) > 0.99


async def test_too_many_requests_at_once_are_told_to_come_back(api: ApiUnderTest) -> None:
    api.admission.max_in_flight = 2
    responses = await asyncio.gather(*(api.search(terms=[{"text": f"red {n}"}]) for n in range(10)))
    refused = [response for response in responses if response.status_code == 503]
    assert len(refused) == 8
    assert all(response.headers["retry-after"] for response in refused)
    assert refused[0].json()["type"].endswith("overloaded")
    assert (await api.search(terms=[{"text": "red"}])).status_code == 200
    assert api.admission.in_flight == 0
