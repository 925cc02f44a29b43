"""The whole server over HTTP: one embedded store of colours, every route, many clients at once."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from search_core.settings import StoreSettings
from tests.fixtures.api_app import PROBLEM, picture
from tests.fixtures.served import Served

COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta", "orange", "white")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(StoreSettings(path=tmp_path_factory.mktemp("store")))
    server.index()
    with server.running():
        yield server


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def test_ready_status_and_catalogue(server: Served, client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    ready = client.get("/ready").json()
    assert (ready["collection"], ready["model"], ready["total_indexed"]) == (server.collection, "fake", 30)
    status = client.get("/status").json()
    assert (status["store"], status["dim"]) == ("embedded", 64)
    assert [one["aliases"] for one in client.get("/collections").json()["collections"]] == [["images"]]
    assert len(client.get("/facets").json()["facets"]["folder"]) == 10
    assert client.get("/openapi.json").json()["servers"] == [{"url": "/api"}]


def test_texts_pictures_and_ids(server: Served, client: httpx.Client) -> None:
    red = set(server.ids["red"])

    def found(response: httpx.Response) -> set[str]:
        assert response.status_code == 200, response.text
        return {hit["id"] for hit in response.json()["hits"]}

    assert found(client.get("/search", params={"q": "red", "limit": 3})) == red
    assert found(client.post("/search", json={"terms": [{"text": "red"}], "limit": 3})) == red
    encoded = base64.b64encode(picture("red")).decode()
    assert found(client.post("/search", json={"terms": [{"image_base64": encoded}], "limit": 3})) == red
    upload = client.post("/search/image", files={"image": picture("red")}, data={"query": '{"limit":3}'})
    assert found(upload) == red
    first, *others = server.ids["red"]
    more = client.post("/search", json={"terms": [{"image_id": first}], "limit": 2, "explain": True})
    assert found(more) == set(others)
    assert more.json()["hits"][0]["explanation"][0]["kind"] == "image_id"


def test_pictures_are_served(server: Served, client: httpx.Client) -> None:
    hit = client.get("/search", params={"q": "blue", "limit": 1}).json()["hits"][0]
    content = httpx.get(server.url + hit["image_url"], timeout=30)
    assert content.headers["content-type"] == "image/png"
    assert content.headers["x-content-type-options"] == "nosniff"
    thumbnail = httpx.get(server.url + hit["thumbnail_url"], timeout=30)
    assert thumbnail.content[:2] == b"\xff\xd8"
    etag = thumbnail.headers["etag"]
    again = httpx.get(server.url + hit["thumbnail_url"], headers={"if-none-match": etag}, timeout=30)
    assert again.status_code == 304


def test_a_picture_is_uploaded_found_and_deleted(client: httpx.Client) -> None:
    data = picture((250, 20, 120), kind="JPEG")
    uploaded = client.post("/images", files={"image": ("rose.jpg", data)}, data={"caption": "a rose"})
    assert uploaded.status_code == 201, uploaded.text
    id = uploaded.json()["id"]
    best = client.post("/search/image", files={"image": data}, data={"query": '{"limit":1}'}).json()["hits"][
        0
    ]
    assert (best["id"], best["payload"]["caption"]) == (id, "a rose")
    assert client.delete(f"/images/{id}").status_code == 204
    assert client.get(f"/images/{id}").status_code == 404
    assert not Path(best["uri"].removeprefix("file://")).exists()


@pytest.mark.parametrize(
    ("method", "path", "arguments", "status"),
    [
        ("POST", "/search", {"json": {"terms": [{"text": ""}]}}, 422),
        ("POST", "/search", {"json": {"terms": [{"image_id": str(uuid.UUID(int=1))}]}}, 404),
        ("POST", "/search", {"json": {"terms": [{"text": "red"}], "collection": "nope"}}, 404),
        ("POST", "/search", {"json": {"terms": [{"image_url": "http://127.0.0.1/x.png"}]}}, 422),
        ("POST", "/search", {"json": {"terms": [{"image_base64": "AAAA"}]}}, 422),
        ("POST", "/search", {"content": b'{"terms":[{"text":"red","weight":NaN}]}'}, 422),
        ("POST", "/search", {"content": b"[" * 100_000}, 400),
        ("POST", "/images", {"files": {"image": b"no picture"}}, 422),
        ("POST", "/images", {"files": {"image": b"\0" * 1_000_000}}, 413),
        ("GET", "/nope", {}, 404),
        ("PUT", "/search", {}, 405),
    ],
)
def test_refusals_are_problems(
    client: httpx.Client, method: str, path: str, arguments: dict[str, Any], status: int
) -> None:
    headers = {"content-type": "application/json"} if "content" in arguments else {}
    response = client.request(method, path, headers=headers, **arguments)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    assert response.json()["status"] == status


def test_a_request_id_is_passed_on(client: httpx.Client) -> None:
    assert client.get("/health", headers={"x-request-id": "one-two"}).headers["x-request-id"] == "one-two"
    assert client.get("/health").headers["x-request-id"]


async def test_many_clients_at_once_each_get_their_own_answer(server: Served) -> None:
    async with httpx.AsyncClient(base_url=f"{server.url}/api", timeout=120, trust_env=False) as client:

        async def by_text(number: int) -> bool:
            colour = COLOURS[number % len(COLOURS)]
            answer = await client.get("/search", params={"q": f"{colour} w{number}", "limit": 1})
            return bool(answer.json()["hits"][0]["id"] in server.ids[colour])

        async def by_picture(number: int) -> bool:
            colour = COLOURS[number % len(COLOURS)]
            query = {"image": picture(colour)} if number % 5 else {"image": b"broken"}
            answer = await client.post("/search/image", files=query, data={"query": '{"limit":1}'})
            if number % 5 == 0:
                return answer.status_code == 422
            return bool(answer.json()["hits"][0]["id"] in server.ids[colour])

        answers = await asyncio.gather(*map(by_text, range(60)), *map(by_picture, range(40)))
    assert all(answers)


async def test_every_visitor_of_the_page_gets_his_own_answer(server: Served) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=120, trust_env=False) as client:
        page = await client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        config = (await client.get("/config")).json()
        answers = await asyncio.gather(
            *(_visit(client, config, COLOURS[n % len(COLOURS)]) for n in range(24))
        )
    for number, answer in enumerate(answers):
        assert f"{COLOURS[number % len(COLOURS)]}-" in answer


async def _visit(client: httpx.AsyncClient, config: dict[str, Any], words: str) -> str:
    """Types words and presses Enter, by Gradio's own protocol; returns all that comes back."""
    components = {component["id"]: component for component in config["components"]}
    typed = next(one for one in config["dependencies"] if any(t[1] == "submit" for t in one["targets"]))
    values = [
        None if components[id]["type"] == "state" else components[id]["props"].get("value")
        for id in typed["inputs"]
    ]
    first_text = next(i for i, id in enumerate(typed["inputs"]) if components[id]["type"] == "textbox")
    values[first_text] = words
    session = uuid.uuid4().hex
    event = {
        "data": values,
        "fn_index": typed["id"],
        "session_hash": session,
        "trigger_id": typed["targets"][0][0],
    }
    (await client.post("/gradio_api/queue/join", json=event)).raise_for_status()
    received = ""
    async with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        async for line in stream.aiter_lines():
            received += line
            if line.startswith("data:") and json.loads(line[5:])["msg"] in {
                "process_completed",
                "close_stream",
            }:
                break
    return received
