"""Every request that the contract refuses, and bodies that are meant to break a parser."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.api_app import PROBLEM, ApiUnderTest, picture, running_api

RED = {"text": "red"}
UNKNOWN = str(uuid.UUID(int=7))


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiUnderTest]:
    async with running_api(tmp_path, "memory") as api:
        yield api


@pytest.fixture(params=["edge", "memory"])
async def either(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ApiUnderTest]:
    """For what might get as far as the store."""
    async with running_api(tmp_path, request.param) as api:
        yield api


def assert_problem(response: httpx.Response, *statuses: int) -> dict[str, Any]:
    assert response.status_code in statuses, response.text
    assert response.headers["content-type"] == PROBLEM
    body: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "errors"} <= body.keys()
    assert body["status"] == response.status_code
    assert body["detail"]
    return body


def nested(depth: int) -> str:
    return '{"terms":' + "[" * depth + "]" * depth + "}"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"terms": [RED], "nope": 1}, "/nope"),
        ({"terms": [{**RED, "nope": 1}]}, "/terms/0/nope"),
        ({"terms": [{**RED, "image_id": UNKNOWN}]}, "/terms/0"),
        ({"terms": [{}]}, "/terms/0"),
        ({"terms": [{"text": " \n\t"}]}, "/terms/0/text"),
        ({"terms": [{"text": ""}]}, "/terms/0/text"),
        ({"terms": [{"text": "word " * 10_000}]}, "/terms/0/text"),
        ({"terms": [{"text": 7}]}, "/terms/0/text"),
        ({"terms": [{**RED, "weight": 1.01}]}, "/terms/0/weight"),
        ({"terms": [{**RED, "weight": -1.01}]}, "/terms/0/weight"),
        ({"terms": [{**RED, "weight": "heavy"}]}, "/terms/0/weight"),
        ({"terms": [{"image_base64": "!!"}]}, "/terms/0/image_base64"),
        ({"terms": [{"image_id": "seven"}]}, "/terms/0/image_id"),
        ({"terms": [RED], "limit": 0}, "/limit"),
        ({"terms": [RED], "limit": 1001}, "/limit"),
        ({"terms": [RED], "limit": 1.5}, "/limit"),
        ({"terms": [RED], "offset": -1}, "/offset"),
        ({"terms": [RED], "limit": 1000, "offset": 9001}, ""),
        ({"terms": [RED], "like": ["x"]}, "/like/0"),
        ({"terms": [RED], "collection": ""}, "/collection"),
        ({"terms": []}, ""),
        ({}, ""),
        ({"terms": [{**RED, "weight": 0}]}, ""),
        ({"terms": [RED] * 33}, "/terms"),
        ([], ""),
        ("red", ""),
    ],
)
async def test_a_request_that_does_not_fit_says_where(api: ApiUnderTest, body: Any, pointer: str) -> None:
    problem = assert_problem(await api.client.post("/search", json=body), 422)
    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize(
    "body",
    [
        '{"terms":[{"text":"red","weight":%s}]}',
        '{"terms":[{"text":"red"}],"min_score":%s}',
        '{"terms":[{"text":"red"}],"filter":{"width":{"gte":%s}}}',
        '{"terms":[{"text":"red"}],"filter":{"width":%s}}',
        '{"terms":[{"text":"red"}],"limit":%s}',
        '{"terms":[{"text":"red"}],"nope":%s}',
    ],
)
async def test_numbers_that_are_not_finite(either: ApiUnderTest, body: str, number: str) -> None:
    content = (body % number).encode()
    response = await either.client.post(
        "/search", content=content, headers={"content-type": "application/json"}
    )
    assert_problem(response, 400, 422)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b'{"terms":[{"text":"\xff"}]}',
        b'{"terms":[{"text":"\\ud800"}]}',
        b'{"terms":[{"text":"red"}],"collection":"\\ud800"}',
        b'{"terms":[{"text":"red"}],"filter":{"folder":"\\ud800"}}',
        b'{"terms":[{"text":"red"}],"filter":{"\\ud800":"red"}}',
        b'{"\\ud800":1}',
        nested(200).encode(),
        nested(100_000).encode(),
        b'{"terms":[{"text":"red"}],"limit":' + b"9" * 10_000 + b"}",
        b'{"terms":[{"text":"red"}],"filter":{"width":' + b"9" * 40 + b"}}",
    ],
)
async def test_bodies_that_are_no_request(either: ApiUnderTest, content: bytes) -> None:
    response = await either.client.post(
        "/search", content=content, headers={"content-type": "application/json"}
    )
    assert_problem(response, 400, 422)


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "multipart/form-data", None])
async def test_another_content_type(api: ApiUnderTest, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = await api.client.post(
        "/search", content=json.dumps({"terms": [RED]}).encode(), headers=headers
    )
    assert_problem(response, 400, 415, 422)


@pytest.mark.parametrize(
    "where",
    [
        {"folder": None},
        {"folder": []},
        {"folder": {}},
        {"folder": ["red", 1]},
        {"folder": ["red", True]},
        {"folder": [[]]},
        {"width": {"near": 3}},
        {"width": {"gte": "3"}},
        {"width": {"gte": True}},
        {"width": 3.5},
        {"width": 10**30},
        {"width": [10**30]},
        {"width": {"gte": 10**400}},
        {"": "red"},
        {'"': "red"},
        {"x" * 5000: "red"},
        {"folder": "x" * 100_000},
        {"folder": ["x"] * 5000},
        {f"f{i}": 1 for i in range(200)},
    ],
)
async def test_filters_that_mean_nothing(either: ApiUnderTest, where: dict[str, Any]) -> None:
    assert_problem(await either.search(terms=[RED], filter=where), 422)


@pytest.mark.parametrize(
    "request_",
    [
        {"terms": [{"image_id": UNKNOWN}]},
        {"terms": [RED], "like": [UNKNOWN]},
        {"terms": [RED], "dislike": [UNKNOWN]},
        {"terms": [RED], "collection": "nope"},
        {"terms": [RED], "collection": "../images"},
        {"terms": [RED], "collection": "a/b\x00c"},
    ],
)
async def test_an_unknown_id_or_collection(either: ApiUnderTest, request_: dict[str, Any]) -> None:
    assert_problem(await either.search(**request_), 404)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/a.png",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "not a url",
        "http://",
        "http://127.0.0.1:1/a.png",
        "http://localhost/a.png",
        "http://[::1]/a.png",
        "http://[::ffff:127.0.0.1]/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/a.png",
        "http://0/a.png",
        "http://2130706433/a.png",
        "http://host.invalid/a.png",
        "http://[/a.png",
        "http://exa mple.org/",
        "http://" + "a" * 300 + "/",
        "http://a:99999/",
    ],
)
async def test_an_image_url_that_is_not_for_us(api: ApiUnderTest, url: str) -> None:
    assert_problem(await api.search(terms=[{"image_url": url}]), 422)


@pytest.mark.parametrize("data", [b"", b"no picture", b"<svg/>", picture("red")[:60]])
async def test_bytes_that_are_no_picture(api: ApiUnderTest, data: bytes) -> None:
    encoded = base64.b64encode(data).decode()
    assert_problem(await api.search(terms=[{"image_base64": encoded}]), 422)
    assert_problem(await api.client.post("/search/image", files={"image": ("a.png", data)}), 422)
    assert_problem(await api.client.post("/images", files={"image": ("a.png", data)}), 422)
    assert_problem(await api.client.post("/embed", json={"images_base64": [encoded]}), 422)


async def test_pictures_beyond_the_limits(api: ApiUnderTest) -> None:
    many_pixels = picture("red", (2000, 1000))
    assert_problem(await api.client.post("/images", files={"image": many_pixels}), 413, 422)
    encoded = base64.b64encode(b"\0" * 210_000).decode()
    assert_problem(await api.search(terms=[{"image_base64": encoded}]), 413)


async def test_a_body_is_cut_off_while_it_is_read(api: ApiUnderTest) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100_000_000:
            sent += 50_000
            yield b"x" * 50_000

    response = await api.client.post(
        "/search", content=endless(), headers={"content-type": "application/json"}
    )
    assert_problem(response, 413)
    assert sent < 1_000_000


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/search", 422),
        ("/search?q=", 422),
        ("/search?q=%20", 422),
        ("/search?q=red&limit=0", 422),
        ("/search?q=red&limit=1001", 422),
        ("/search?q=red&limit=x", 422),
        ("/search?q=red&k=3", 422),
        (f"/search?q={'word%20' * 2000}", 422),
        ("/facets?field=nope", 404),
        ("/facets?filter=[]", 422),
        ("/facets?filter={", 422),
        ('/facets?filter={"width":NaN}', 422),
        ("/facets?limit=0", 422),
        ("/facets?nope=1", 422),
        ("/facets?collection=nope", 404),
        ("/images/nope", 404),
        (f"/images/{UNKNOWN}", 404),
        (f"/images/{UNKNOWN}/content", 404),
        (f"/images/{UNKNOWN}/thumbnail", 404),
        ("/images/..%2f..%2fetc%2fpasswd/content", 404),
        ("/nope", 404),
        ("/", 404),
        ("/embed", 405),
    ],
)
async def test_gets_that_are_refused(api: ApiUnderTest, path: str, status: int) -> None:
    assert_problem(await api.client.get(path), status)


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/search"), ("PUT", "/images"), ("PATCH", "/health"), ("POST", "/ready")]
)
async def test_other_methods(api: ApiUnderTest, method: str, path: str) -> None:
    response = await api.client.request(method, path)
    assert_problem(response, 405)
    assert response.headers["allow"]


async def test_deleting_what_is_not_there(api: ApiUnderTest) -> None:
    assert_problem(await api.client.delete(f"/images/{UNKNOWN}"), 404)
    assert_problem(await api.client.delete("/images/x"), 404)


@pytest.mark.parametrize(
    "query",
    [
        "{",
        "[]",
        '{"terms":1}',
        '{"nope":1}',
        '{"limit":0}',
        '{"min_score":NaN}',
        '{"terms":[{"text":""}]}',
        "[" * 100_000,
        '{"limit":' + "9" * 10_000 + "}",
    ],
)
async def test_the_query_of_a_picture_search(api: ApiUnderTest, query: str) -> None:
    response = await api.client.post("/search/image", files={"image": picture("red")}, data={"query": query})
    assert_problem(response, 422)


async def test_multipart_without_its_picture(api: ApiUnderTest) -> None:
    assert_problem(await api.client.post("/search/image", data={"query": "{}"}), 422)
    assert_problem(await api.client.post("/search/image", data={"image": "text"}), 422)
    assert_problem(await api.client.post("/images", json={}), 422)
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert_problem(await api.client.post("/images", content=b"garbage", headers=headers), 400, 422)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"texts": []},
        {"texts": [""]},
        {"texts": ["x"] * 129},
        {"texts": ["x" * 2001]},
        {"images_base64": ["!"]},
        {"images_base64": ["é"]},
        {"images_base64": ["x"] * 17},
        {"text": "x"},
    ],
)
async def test_embeddings_that_are_refused(api: ApiUnderTest, body: dict[str, Any]) -> None:
    assert_problem(await api.client.post("/embed", json=body), 422)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_pages_of_other_sites_may_not_write(api: ApiUnderTest, site: str) -> None:
    headers = {"sec-fetch-site": site}
    response = await api.client.post("/images", files={"image": picture("red")}, headers=headers)
    assert_problem(response, 403)
    assert (await api.client.get("/health", headers=headers)).status_code == 200


async def test_terms_that_cancel_out(api: ApiUnderTest) -> None:
    assert_problem(await api.search(terms=[RED, {**RED, "weight": -1.0}]), 422)


@pytest.mark.parametrize("path", ["/search/image", "/images"])
async def test_an_unknown_field_of_a_form(api: ApiUnderTest, path: str) -> None:
    files = {"image": picture("red")}
    body = assert_problem(await api.client.post(path, files=files, data={"captoin": "a"}), 422)
    assert body["detail"].startswith("captoin: is no field of this form: it takes image, ")
    assert body["errors"][0]["parameter"] == "captoin"
    twice = assert_problem(await api.client.post(path, files={**files, "other": picture("blue")}), 422)
    assert twice["errors"][0]["parameter"] == "other"
    assert (await api.client.post(path, files=files)).is_success


@pytest.mark.parametrize("path", ["/search", "/embed"])
async def test_a_body_that_is_no_json_is_told_in_words(api: ApiUnderTest, path: str) -> None:
    headers = {"Content-Type": "application/json"}
    body = assert_problem(await api.client.post(path, content='{"terms": nope}', headers=headers), 422)
    assert body["detail"] == "the body is not valid JSON: Expecting value at character 10"
    assert body["errors"] == [{"detail": body["detail"]}]
