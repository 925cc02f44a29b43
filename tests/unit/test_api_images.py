"""Single pictures over HTTP: content, thumbnails, uploads and deletions; and the routes that tell of the server."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search_core.points import Batch, point_id
from tests.fixtures.api_app import ApiUnderTest, picture, running_api


def file_of(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def thumbnails(api: ApiUnderTest) -> list[Path]:
    return list((api.settings.store.path / "thumbnails").rglob("*.jpg"))


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiUnderTest]:
    async with running_api(tmp_path) as api:
        yield api


async def test_what_is_known_of_a_picture(api: ApiUnderTest) -> None:
    id = api.ids["red"][0]
    body = (await api.client.get(f"/images/{id.upper()}")).json()
    assert body["id"] == id
    assert body["payload"]["caption"] == "a red picture"
    assert body["image_url"] == f"/api/images/{id}/content"


async def test_content_is_the_file_with_safe_headers(api: ApiUnderTest) -> None:
    response = await api.client.get(f"/images/{api.ids['red'][0]}/content")
    assert response.content == picture("red", (40, 50))
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]
    assert "max-age" in response.headers["cache-control"]


@pytest.mark.parametrize("part", ["content", "thumbnail"])
async def test_nothing_is_sent_twice(api: ApiUnderTest, part: str) -> None:
    path = f"/images/{api.ids['red'][0]}/{part}"
    etag = (await api.client.get(path)).headers["etag"]
    again = await api.client.get(path, headers={"if-none-match": f'"x", W/{etag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert (await api.client.head(path)).headers["etag"] == etag
    assert (await api.client.get(path, headers={"if-none-match": '"x"'})).status_code == 200


async def test_part_of_a_file(api: ApiUnderTest) -> None:
    path = f"/images/{api.ids['red'][0]}/content"
    response = await api.client.get(path, headers={"range": "bytes=0-3"})
    assert (response.status_code, response.content) == (206, b"\x89PNG")


async def test_a_thumbnail_is_small_and_kept(api: ApiUnderTest) -> None:
    path = f"/images/{api.ids['red'][2]}/thumbnail"
    response = await api.client.get(path)
    assert response.headers["content-type"] == "image/jpeg"
    assert max(Image.open(io.BytesIO(response.content)).size) == 32
    assert len(thumbnails(api)) == 1
    assert (await api.client.get(path)).content == response.content


async def test_a_picture_whose_file_is_gone(api: ApiUnderTest) -> None:
    id = api.ids["red"][0]
    uri = (await api.client.get(f"/images/{id}")).json()["uri"]
    await asyncio.to_thread(file_of(uri).unlink)
    assert (await api.client.get(f"/images/{id}/content")).status_code == 404
    assert (await api.client.get(f"/images/{id}/thumbnail")).status_code == 404


async def test_pictures_of_other_sites_are_redirected_to(api: ApiUnderTest) -> None:
    uri = "http://127.0.0.1:9/a.jpg"
    vector = (await api.encoders.text("red")).vector
    payload = {"uri": uri, "format": "jpeg", "content_hash": "0" * 64}
    await api.store.upsert(api.collection, Batch([point_id(uri)], np.stack([vector]), [payload]))
    content = await api.client.get(f"/images/{point_id(uri)}/content")
    assert (content.status_code, content.headers["location"]) == (302, uri)
    thumbnail = await api.client.get(f"/images/{point_id(uri)}/thumbnail")
    assert thumbnail.status_code == 404
    assert "not public" in thumbnail.json()["detail"]


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [("mpo", "image/jpeg"), ("svg", "application/octet-stream"), ("html", "application/octet-stream")],
)
async def test_media_types_are_of_pictures_only(api: ApiUnderTest, kind: str, media_type: str) -> None:
    known = (await api.client.get(f"/images/{api.ids['red'][0]}")).json()["payload"]
    vector = (await api.encoders.text("red")).vector
    await api.store.upsert(
        api.collection, Batch([api.ids["red"][0]], np.stack([vector]), [{**known, "format": kind}])
    )
    response = await api.client.get(f"/images/{api.ids['red'][0]}/content")
    assert response.headers["content-type"] == media_type


async def test_an_upload_is_found_at_once_and_deleted_completely(api: ApiUnderTest) -> None:
    data = picture((200, 30, 90), kind="JPEG")
    response = await api.client.post(
        "/images", files={"image": ("../../my photo.jpg", data)}, data={"caption": ["a rose", "in bloom"]}
    )
    assert response.status_code == 201
    body = response.json()
    id, payload = body["id"], body["payload"]
    assert response.headers["location"] == f"/api/images/{id}"
    assert body["collection"] == api.collection
    kept = file_of(payload["uri"])
    assert kept.parent == api.settings.media_root
    assert await asyncio.to_thread(kept.read_bytes) == data
    assert id == point_id(payload["uri"])
    assert payload["content_hash"] == hashlib.sha256(data).hexdigest()
    assert (payload["width"], payload["height"], payload["orientation"]) == (48, 32, "landscape")
    assert (payload["format"], payload["bytes"]) == ("jpeg", len(data))
    assert (payload["caption"], payload["captions"]) == ("a rose", ["a rose", "in bloom"])
    assert payload["original_name"] == "my photo.jpg"
    assert payload["source_version"] == f"{len(data)}:{(await asyncio.to_thread(kept.stat)).st_mtime_ns}"

    found = await api.client.post("/search/image", files={"image": data}, data={"query": '{"limit":1}'})
    assert found.json()["hits"][0]["id"] == id
    assert (await api.client.get("/ready")).json()["total_indexed"] == 31
    assert (await api.client.get(f"/images/{id}/content")).content == data
    assert (await api.client.get(f"/images/{id}/thumbnail")).status_code == 200

    again = await api.client.post("/images", files={"image": ("other.jpg", data)})
    assert (again.status_code, again.json()["id"]) == (200, id)
    assert again.json()["payload"]["caption"] == "a rose"

    assert (await api.client.delete(f"/images/{id}")).status_code == 204
    assert not await asyncio.to_thread(kept.exists)
    assert not thumbnails(api)
    assert (await api.client.get(f"/images/{id}")).status_code == 404
    assert (await api.client.get("/ready")).json()["total_indexed"] == 30


async def test_the_same_bytes_uploaded_twice_at_once(
    api: ApiUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = picture((200, 30, 90), kind="JPEG")
    both, write = threading.Barrier(2), Path.write_bytes

    def write_together(path: Path, content: bytes) -> int:
        written = write(path, content)
        both.wait(60)
        return written

    monkeypatch.setattr(Path, "write_bytes", write_together)
    posts = [api.client.post("/images", files={"image": ("a.jpg", data)}) for _ in range(2)]
    one, other = await asyncio.gather(*posts)
    assert {one.status_code, other.status_code} <= {200, 201}
    assert one.json()["id"] == other.json()["id"]
    kept = await asyncio.to_thread(lambda: list(api.settings.media_root.iterdir()))
    assert kept == [file_of(one.json()["uri"])]


async def test_deleting_an_indexed_picture_keeps_its_file(api: ApiUnderTest) -> None:
    id = api.ids["red"][0]
    uri = (await api.client.get(f"/images/{id}")).json()["uri"]
    assert (await api.client.delete(f"/images/{id}")).status_code == 204
    assert await asyncio.to_thread(file_of(uri).exists)
    assert id not in await api.hit_ids(terms=[{"text": "red"}], limit=100)


async def test_facets(api: ApiUnderTest) -> None:
    facets = (await api.client.get("/facets")).json()["facets"]
    assert set(facets) == {"folder", "format", "orientation"}
    assert facets["format"] == [{"value": "png", "count": 30}]
    params = {"field": "orientation", "filter": '{"folder":"red"}', "limit": 2}
    narrowed = (await api.client.get("/facets", params=params)).json()["facets"]
    assert set(narrowed) == {"orientation"}
    assert len(narrowed["orientation"]) == 2


async def test_status_ready_and_collections(api: ApiUnderTest) -> None:
    ready = (await api.client.get("/ready")).json()
    assert ready == {"status": "ready", "collection": api.collection, "model": "fake", "total_indexed": 30}
    status = (await api.client.get("/status")).json()
    assert (status["store"], status["dim"], status["total_indexed"]) == ("embedded", 64, 30)
    assert status["encoders"]["text"] == {"device": "cpu", "precision": "fp32"}
    (collection,) = (await api.client.get("/collections")).json()["collections"]
    assert collection["aliases"] == ["images"]
    assert (collection["count"], collection["state"]) == (30, "ready")


async def test_a_server_whose_model_cannot_be_loaded_is_not_ready(api: ApiUnderTest) -> None:
    assert (await api.client.get("/ready")).status_code == 200
    assert api.encoders.prepared == ["fake", "fake"]
    api.encoders.broken.add("fake")
    response = await api.client.get("/ready")
    assert response.status_code == 500
    assert response.json()["type"].endswith("model")


async def test_the_openapi_document_describes_every_route_and_problem(api: ApiUnderTest) -> None:
    document = (await api.client.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/search", "/search/image", "/embed", "/images", "/images/{id}", "/images/{id}/content",
        "/images/{id}/thumbnail", "/facets", "/collections", "/status", "/health", "/ready",
    }  # fmt: skip
    assert document["servers"] == [{"url": "/api"}]
    assert {"Problem", "InvalidField", "SearchRequest"} <= document["components"]["schemas"].keys()
    for operations in document["paths"].values():
        for operation in operations.values():
            assert {"4XX", "5XX"} <= operation["responses"].keys()
