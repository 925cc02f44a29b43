"""Which collection and model a request is answered by, as aliases move, collections go and models fail to load."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_core.collections import drop, publish, rollback
from search_core.encoder import load_encoder
from search_core.model import ModelSpec, resolve_model
from search_core.points import Batch, point_id
from search_core.settings import ModelSettings
from search_core.store import new_collection_name
from serve_app.pins import RETRY_S
from tests.fixtures.api_app import PROBLEM, ApiUnderTest, picture, running_api

OTHER = resolve_model("fake/32")
TURNS = 200
"""So often the event loop gets to everything that waits for nothing but its turn."""


@pytest.fixture(params=["edge", "memory"])
async def api(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ApiUnderTest]:
    async with running_api(tmp_path, request.param) as api:
        yield api


async def collection_of(api: ApiUnderTest, spec: ModelSpec, number: int = 0) -> str:
    """A collection of one picture."""
    name = new_collection_name("images", spec, now=4e9 + number)
    await api.store.create(name, spec)
    uri = f"http://127.0.0.1:9/{name}.png"
    vectors = load_encoder(spec, ModelSettings()).encode_texts(["red"])
    await api.store.upsert(name, Batch([point_id(uri)], vectors, [{"uri": uri, "folder": "only"}]))
    return name


async def served(api: ApiUnderTest, **more: Any) -> tuple[str, str]:
    """Model and collection of a search."""
    response = await api.search(terms=[{"text": "red"}], **more)
    assert response.status_code == 200, response.text
    return response.json()["model"], response.json()["collection"]


async def status(api: ApiUnderTest) -> dict[str, Any]:
    body: dict[str, Any] = (await api.client.get("/status")).json()
    return body


def later(api: ApiUnderTest, seconds: float = 2.0) -> None:
    """Lets what is remembered of the store grow old."""
    api.clock.now += seconds


async def until(what: Callable[[], bool]) -> None:
    for _ in range(TURNS):
        if what():
            return
        await asyncio.sleep(0)
    raise AssertionError("waited in vain")


async def test_the_old_pin_serves_until_the_new_model_is_loaded(api: ApiUnderTest) -> None:
    old = ("fake", api.collection)
    assert await served(api) == old
    api.encoders.hold = asyncio.Event()
    name = await collection_of(api, OTHER)
    await publish(api.store, "images", name)
    later(api)
    for _ in range(3):
        assert await served(api) == old
        assert await served(api, collection="images") == old
    assert (await status(api))["next"] == {"collection": name, "model": "fake/32", "error": None}
    assert (await status(api))["collection"] == api.collection
    assert (await api.client.post("/embed", json={"texts": ["red"]})).json()["dim"] == 64
    assert (await api.client.get(f"/images/{api.ids['red'][0]}")).status_code == 200
    assert len((await api.client.get("/facets")).json()["facets"]["folder"]) == 10
    assert await served(api, collection=name) == ("fake/32", name)

    api.encoders.hold.set()
    await until(lambda: api.pins.switch is None)
    assert await served(api) == ("fake/32", name)
    now = await status(api)
    assert (now["model"], now["fingerprint"], now["dim"]) == ("fake/32", OTHER.fingerprint, 32)
    assert (now["collection"], now["total_indexed"], now["next"]) == (name, 1, None)
    assert (await api.client.get("/ready")).json()["collection"] == name
    assert (await api.client.post("/embed", json={"texts": ["red"]})).json()["dim"] == 32
    assert (await api.client.get(f"/images/{api.ids['red'][0]}")).status_code == 404
    assert (await api.client.get("/facets")).json()["facets"]["folder"] == [{"value": "only", "count": 1}]
    assert await served(api, collection=api.collection) == old


async def test_a_rollback_is_followed_like_a_publish(api: ApiUnderTest) -> None:
    await served(api)
    name = await collection_of(api, OTHER)
    await publish(api.store, "images", name)
    later(api)
    await served(api)
    await until(lambda: api.pins.switch is None)
    assert await served(api) == ("fake/32", name)
    assert await rollback(api.store, "images") == api.collection
    later(api)
    await served(api)
    await until(lambda: api.pins.switch is None)
    assert await served(api) == ("fake", api.collection)


async def test_a_rollback_while_the_new_model_is_loading_calls_the_switch_off(api: ApiUnderTest) -> None:
    await served(api)
    api.encoders.hold = asyncio.Event()
    await publish(api.store, "images", await collection_of(api, OTHER))
    later(api)
    await served(api)
    assert api.pins.switch is not None
    attempt = api.pins.switch.attempt
    assert attempt is not None
    await rollback(api.store, "images")
    later(api)
    assert await served(api) == ("fake", api.collection)
    assert api.pins.switch is None
    api.encoders.hold.set()
    await attempt
    assert api.encoders.prepared == ["fake/32"]
    assert await served(api) == ("fake", api.collection)


async def test_a_model_that_cannot_be_loaded_leaves_the_old_pin_and_is_tried_again(api: ApiUnderTest) -> None:
    old = ("fake", api.collection)
    await served(api)
    api.encoders.broken.add("fake/32")
    name = await collection_of(api, OTHER)
    await publish(api.store, "images", name)
    later(api)
    await served(api)
    await until(lambda: api.pins.switch is not None and api.pins.switch.error is not None)
    assert await served(api) == old
    assert (await status(api))["next"]["error"] == "model 'fake/32' cannot be loaded"
    assert (await api.client.get("/ready")).json()["collection"] == api.collection
    refused = await api.search(terms=[{"text": "red"}], collection=name)
    assert (refused.status_code, refused.headers["content-type"]) == (500, PROBLEM)
    assert refused.json()["type"].endswith("model")

    api.encoders.broken.clear()
    later(api)
    assert await served(api) == old
    assert "fake/32" not in api.encoders.prepared
    later(api, RETRY_S)
    await served(api)
    await until(lambda: api.pins.switch is None)
    assert await served(api) == ("fake/32", name)


async def test_a_model_that_is_another_one_by_now_is_refused(api: ApiUnderTest) -> None:
    await served(api)
    changed = ModelSpec(**{**vars(resolve_model("fake/16")), "weights_id": "other weights"})
    name = await collection_of(api, changed)
    await publish(api.store, "images", name)
    later(api)
    await served(api)
    await until(lambda: api.pins.switch is not None and api.pins.switch.error is not None)
    assert "index again with --rebuild" in (await status(api))["next"]["error"]
    assert await served(api) == ("fake", api.collection)


async def test_a_collection_that_is_dropped_is_left_for_the_published_one(api: ApiUnderTest) -> None:
    await served(api)
    api.encoders.hold = asyncio.Event()  # so that nobody moves before he must
    name = await collection_of(api, OTHER)
    await publish(api.store, "images", name)
    later(api)
    assert await served(api) == ("fake", api.collection)
    await drop(api.store, "images", api.collection)
    assert await served(api) == ("fake/32", name)
    assert (await api.search(terms=[{"text": "red"}], collection=api.collection)).status_code == 404


async def test_a_collection_that_is_dropped_between_encoding_and_retrieving(api: ApiUnderTest) -> None:
    name = await collection_of(api, OTHER)
    await served(api)
    text = api.encoders.text

    async def late(words: str, spec: ModelSpec) -> Any:
        encoded = await text(words, spec)
        if spec.name == "fake":
            await publish(api.store, "images", name)
            await drop(api.store, "images", api.collection)
        return encoded

    api.service._encode_text._encode = late
    response = await api.search(terms=[{"text": "blue"}])
    assert (response.json()["model"], response.json()["collection"]) == ("fake/32", name)
    assert api.encoders.texts[-2:] == ["blue", "blue"]  # once by each model


async def test_a_named_collection_that_is_dropped_is_not_found(api: ApiUnderTest) -> None:
    name = await collection_of(api, OTHER)
    assert await served(api, collection=name) == ("fake/32", name)
    await api.store.drop(name)
    assert (await api.search(terms=[{"text": "red"}], collection=name)).status_code == 404
    assert await served(api) == ("fake", api.collection)


async def test_texts_are_remembered_for_their_own_model(api: ApiUnderTest) -> None:
    name = await collection_of(api, OTHER)
    for _ in range(3):
        await served(api)
        await served(api, collection=name)
    assert api.encoders.texts.count("red") == 2


async def test_uploads_and_deletions_go_to_the_served_collection_by_its_model(api: ApiUnderTest) -> None:
    await served(api)
    name = await collection_of(api, OTHER)
    await publish(api.store, "images", name)
    later(api)
    await served(api)
    await until(lambda: api.pins.switch is None)
    data = picture((200, 30, 90))
    uploaded = (await api.client.post("/images", files={"image": data})).json()
    assert uploaded["collection"] == name
    (point,) = await api.store.retrieve(name, [uploaded["id"]], with_vectors=True)
    assert point.vector is not None
    np.testing.assert_allclose(point.vector, (await api.encoders.image(data, OTHER)).vector, atol=1e-6)
    term = {"image_base64": base64.b64encode(data).decode()}
    hits = await api.hit_ids(terms=[term], limit=1)
    assert hits == [uploaded["id"]]
    assert await api.store.count(api.collection) == 30
    assert (await api.client.delete(f"/images/{uploaded['id']}")).status_code == 204
    assert await api.store.count(name) == 1


async def test_an_idle_replica_follows_too(api: ApiUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.pins.FOLLOW_S", 0.0)
    await served(api)
    name = await collection_of(api, OTHER)
    await publish(api.store, "images", name)
    later(api)
    await until(lambda: api.encoders.prepared == ["fake/32"])
    assert await served(api) == ("fake/32", name)
