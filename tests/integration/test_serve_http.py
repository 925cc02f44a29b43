"""The whole server over HTTP: one embedded store of colours, every route, many clients at once, and what it tells of
itself: metrics, log lines and traces.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from search_core.settings import StoreSettings
from tests.fixtures.api_app import PROBLEM, picture
from tests.fixtures.monitoring import INDEX, Exported, asked
from tests.fixtures.otlp_receiver import OtlpReceiver, otlp_receiver
from tests.fixtures.ports import free_port
from tests.fixtures.processes import until
from tests.fixtures.qdrant_server import QdrantServer
from tests.fixtures.served import Served

METRICS_PORT = "IMAGE_SEARCH_SERVE__METRICS_PORT"
DEPLOYMENTS = {"Api", "TextEncoder", "ImageEncoder", "Retrieval"}
OUR_LINES = {"access.py", "encoders.py", "retrieval.py"}
COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta", "orange", "white")


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, collector: OtlpReceiver) -> Iterator[Served]:
    server = Served(
        StoreSettings(path=tmp_path_factory.mktemp("store")),
        settings={
            METRICS_PORT: str(free_port()),
            "RAY_metrics_report_interval_ms": "1000",
            "IMAGE_SEARCH_SERVE__LOG_LEVEL": "DEBUG",
            "IMAGE_SEARCH_SERVE__TRACING__ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        },
    )
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


def search_with_everything(client: httpx.Client, word: str, request_id: str) -> None:
    """A search that goes through every deployment of the application."""
    terms = [{"text": word}, {"image_base64": base64.b64encode(picture("red")).decode()}]
    answer = client.post("/search", json={"terms": terms}, headers={"x-request-id": request_id})
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, request_id)


def test_every_deployment_logs_the_request_id(server: Served, client: httpx.Client) -> None:
    search_with_everything(client, "logged", "logged-request")

    def lines() -> dict[str, dict[str, Any]]:
        """The line of ours that each deployment has written for this request."""
        return {
            name: line
            for name, lines in server.logs().items()
            for line in lines
            if line.get("request_id") == "logged-request" and line["filename"] in OUR_LINES
        }

    line = until(lambda: (found := lines()).keys() == DEPLOYMENTS and found, server.logs)["Api"]
    assert (line["levelname"], line["method"], line["path"]) == ("INFO", "POST", "/api/search")
    assert (line["status"], line["outcome"], line["kind"]) == (200, "ok", "combined")
    assert line["collection"] == server.collection
    assert line["timings_ms"].keys() == {"encode", "retrieve", "total"}

    broken = client.post("/search", json={"terms": [{"image_base64": "AAAA"}]}).json()
    assert until(
        lambda: [
            line
            for line in server.logs()["Api"]
            if line.get("request_id") == broken["request_id"] and line.get("outcome") == "image"
        ]
    )


def test_one_trace_goes_through_every_deployment(client: httpx.Client, collector: OtlpReceiver) -> None:
    search_with_everything(client, "traced", "traced-request")
    wanted = {"proxy_http_request Api POST /search", "search", "encode", "batch", "retrieve", "store"}

    def spans() -> list[Span]:
        """Those of this request, once all are there."""
        found = collector.trace("proxy_http_request", "request_id", "traced-request")
        names = {span.name for span in found}
        called = {name.split()[1] for name in names if name.startswith("replica_handle_request")}
        return found if wanted <= names and called == DEPLOYMENTS else []

    trace = until(spans, lambda: {span.name for span in collector.spans})
    by_id = {span.span_id: span for span in trace}

    def above(name: str) -> set[str]:
        """The spans that a span is within."""
        span = next(span for span in trace if span.name == name)
        names = set()
        while span.parent_span_id:
            span = by_id[span.parent_span_id]
            names.add(span.name)
        return names

    assert above("store") >= {"replica_handle_request Retrieval search", "retrieve", "search"}
    assert above("batch") >= {"encode", "search", "replica_handle_request Api __call__"}


def test_dashboard_and_alerts_ask_for_what_is_exported(
    server: Served, client: httpx.Client, qdrant_server: QdrantServer, tmp_path: Path
) -> None:
    search_with_everything(client, "counted", "counted-request")
    for _ in range(2):  # the cache knows the second
        assert client.get("/search", params={"q": "found twice"}).status_code == 200
    client.post("/search", json={"terms": [{"image_id": server.ids["red"][0]}]})
    client.get("/search", params={"q": ""})

    wanted = asked()
    of_ray = {one for one in wanted if one.metric.startswith("ray_") and not one.metric.startswith(INDEX)}
    ray = Exported(f"http://127.0.0.1:{server.settings[METRICS_PORT]}/metrics", of_ray)
    until(ray.has_all, ray.missing)
    kinds = {labels["kind"] for labels in ray.series["ray_image_search_queries_total"]}
    assert kinds >= {"text", "combined", "id", "unknown"}
    assert ray.last["ray_image_search_collection_quarantined"] == 2
    assert ray.last["ray_image_search_collection_points"] == 30
    assert 0 <= time.time() - ray.last["ray_image_search_collection_checked_timestamp_seconds"] < 600

    qdrant_server.clear()
    Served(qdrant_server.settings(tmp_path)).index()
    of_qdrant = {one for one in wanted if not one.metric.startswith("ray_")}
    qdrant = Exported(f"{qdrant_server.url}/metrics", of_qdrant)
    until(qdrant.has_all, qdrant.missing)


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
