"""A running server follows the alias to a collection of another model and back, under clients that never pause.

What was uploaded to it is in the other collection too, and its encoders give the vectors that the index run gave.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from search_core.compose import Means, WeightedVector, compose
from search_core.edge_files import EdgeFiles
from search_core.encoder import load_encoder
from search_core.model import ModelSpec, resolve_model
from search_core.points import Vectors
from search_core.preprocess import pixels_of
from search_core.settings import ImageSettings, ModelSettings, StoreSettings
from search_core.stores import open_store
from tests.fixtures.api_app import picture
from tests.fixtures.commands import Commands
from tests.fixtures.processes import open_files, pids, until
from tests.fixtures.qdrant_server import QdrantServer
from tests.fixtures.served import Served
from tests.fixtures.stores import everything

OLD, NEW = resolve_model("fake"), resolve_model("fake/32")
COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta", "orange", "white")
READERS = 4
LIMIT = 5
TEAL = (20, 150, 120)


@dataclass(frozen=True)
class Query:
    """A text or the colour of a picture."""

    text: str | None = None
    colour: tuple[int, int, int] | None = None

    def ask(self, client: httpx.Client) -> httpx.Response:
        if self.colour is None:
            return client.get("/search", params={"q": self.text, "limit": LIMIT})
        query = {"query": f'{{"limit":{LIMIT}}}'}
        return client.post("/search/image", files={"image": picture(self.colour)}, data=query)

    def term(self, spec: ModelSpec) -> WeightedVector:
        encoder = load_encoder(spec, ModelSettings())
        if self.text is not None:
            return WeightedVector(encoder.encode_texts([self.text])[0], "text", 1.0)
        assert self.colour is not None
        pixels = pixels_of(picture(self.colour), spec.preprocess, ImageSettings())
        return WeightedVector(encoder.encode_pixels(pixels[None])[0], "image", 1.0)


@dataclass
class Reader:
    """A client in a thread of its own, which asks until it is told to stop or is answered wrongly."""

    url: str
    queries: Callable[[int], Query]
    answers: list[tuple[Query, dict[str, Any]]] = field(default_factory=list)
    failure: str | None = None

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def model(self) -> str:
        """The model of the last answer."""
        assert self.failure is None, self.failure
        return str(self.answers[-1][1]["model"]) if self.answers else ""

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=f"{self.url}/api", timeout=60, trust_env=False) as client:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                query = self.queries(number)
                try:
                    answer = query.ask(client)
                except httpx.HTTPError as error:
                    self.failure = repr(error)
                    return
                if answer.status_code != httpx.codes.OK:
                    self.failure = answer.text
                    return
                self.answers.append((query, answer.json()))


def query_of(reader: int) -> Callable[[int], Query]:
    """What a reader asks: texts that come again and texts that never do, or pictures."""

    def make(number: int) -> Query:
        if reader % 2:
            return Query(colour=(40 * number % 256, 90 * number % 256, (reader * 70 + number) % 256))
        word = number % 7 if number % 2 else number
        return Query(text=f"{COLOURS[number % len(COLOURS)]} w{reader}-{word}")

    return make


@pytest.fixture(params=["embedded", pytest.param("qdrant", marks=pytest.mark.long)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSettings:
    if request.param == "embedded":
        return StoreSettings(path=tmp_path / "store")
    qdrant: QdrantServer = request.getfixturevalue("qdrant_server")
    qdrant.clear()
    return qdrant.settings(tmp_path / "store")


@pytest.fixture
def commands(store: StoreSettings, tmp_path: Path) -> Commands:
    where = ("--qdrant-url", store.qdrant_url) if store.qdrant_url else ()
    return Commands(
        tmp_path,
        *where,
        IMAGE_SEARCH_STORE__PATH=str(store.path),
        IMAGE_SEARCH_STORE__QDRANT_GRPC_PORT=str(store.qdrant_grpc_port),
    )


@pytest.mark.timeout(600)
def test_publish_and_rollback_under_load(store: StoreSettings, commands: Commands) -> None:
    server = Served(store)
    server.index()
    with server.running():
        upload(server)
        readers = [Reader(server.url, query_of(number)) for number in range(READERS)]
        try:
            old = server.collection
            new, embedded = switch_there_and_back(server, commands, readers)
        finally:
            for reader in readers:
                reader.stop()
    assert [reader.failure for reader in readers] == [None] * READERS
    answers = [answer for reader in readers for answer in reader.answers]
    models = {old: OLD, new: NEW}
    assert {answer["collection"] for _, answer in answers} == set(models)
    for _, answer in answers:
        assert answer["model"] == models[answer["collection"]].name
    asyncio.run(assert_right(store, models, answers))
    asyncio.run(assert_same_vectors(store, new, embedded))
    commands.assert_nothing_left()


def upload(server: Served) -> None:
    """Adds a picture that no source lists."""
    with server.client() as client:
        files = {"image": ("teal.png", picture(TEAL))}
        assert client.post("/images", files=files, data={"caption": "a teal one"}).status_code == 201


def switch_there_and_back(
    server: Served, commands: Commands, readers: list[Reader]
) -> tuple[str, dict[str, list[float]]]:
    """Publishes a collection of another model, rolls back, and waits for the readers each time; its name, and what the
    server made of some of its pictures.
    """
    store, old = server.store, server.collection

    def all_served_by(spec: ModelSpec) -> None:
        until(lambda: all(reader.model() == spec.name for reader in readers))

    all_served_by(OLD)
    report = commands.json("index", str(store.path / "pictures"), "--rebuild", "--model", NEW.name)
    new = str(report["collection"])
    all_served_by(NEW)
    with server.client() as client:
        assert_serves(client, NEW, new)
        embedded = embed(client, [ids[0] for ids in server.ids.values()])
        assert_closed(store, old)
        named = client.post("/search", json={"terms": [{"text": "red"}], "limit": 3, "collection": old})
        assert (named.json()["model"], named.json()["collection"]) == (OLD.name, old)
        assert {hit["id"] for hit in named.json()["hits"]} == set(server.ids["red"])
        assert_closed(store, old)
        out, _ = commands.run("collections", "rollback")
        assert out == f"published {old}\n"
        all_served_by(OLD)
        assert_serves(client, OLD, old)
        assert_closed(store, new)
    return new, embedded


def embed(client: httpx.Client, ids: list[str]) -> dict[str, list[float]]:
    """Vectors of pictures by id, from their bytes."""
    files = [client.get(f"/images/{id}/content").content for id in ids]
    body = {"images_base64": [base64.b64encode(file).decode() for file in files]}
    return dict(zip(ids, client.post("/embed", json=body).json()["images"], strict=True))


def assert_serves(client: httpx.Client, spec: ModelSpec, collection: str) -> None:
    """Whatever tells of the server tells of this collection."""
    ready = client.get("/ready").json()
    assert (ready["model"], ready["collection"], ready["total_indexed"]) == (spec.name, collection, 31)
    query = {"query": '{"limit":1}'}
    (hit,) = client.post("/search/image", files={"image": picture(TEAL)}, data=query).json()["hits"]
    assert (hit["payload"]["caption"], hit["payload"]["original_name"]) == ("a teal one", "teal.png")
    status = client.get("/status").json()
    assert (status["fingerprint"], status["collection"]) == (spec.fingerprint, collection)
    assert status["next"] is None
    embedded = client.post("/embed", json={"texts": ["red"]}).json()
    assert (embedded["model"], embedded["dim"], len(embedded["texts"][0])) == (spec.name, spec.dim, spec.dim)


def assert_closed(store: StoreSettings, collection: str) -> None:
    """Waits until no process has the collection's shard open."""
    if store.qdrant_url:
        return
    folder = f"{EdgeFiles(store.path).shard(collection, 1).parent}/"
    until(lambda: not any(file.startswith(folder) for pid in pids() for file in open_files(pid)))


async def assert_same_vectors(settings: StoreSettings, name: str, vectors: dict[str, list[float]]) -> None:
    """The collection, which an index run made, has these."""
    store = open_store(settings)
    points = await store.retrieve(name, list(vectors), with_vectors=True)
    await store.close()
    assert len(points) == len(vectors)
    for point in points:
        np.testing.assert_allclose(point.vector, vectors[point.id], atol=1e-5)


async def assert_right(
    settings: StoreSettings, models: dict[str, ModelSpec], answers: list[tuple[Query, dict[str, Any]]]
) -> None:
    """Each answer has the hits and scores of its own model, which the other would not have given."""
    store = open_store(settings)
    vectors: dict[str, tuple[list[str], Vectors, Means | None]] = {}
    for name in models:
        points = await everything(store, name, with_vectors=True)
        means = (await store.describe(name)).metadata.get("means")
        vectors[name] = (
            [point.id for point in points],
            np.stack([point.vector for point in points if point.vector is not None]),
            means and Means(np.float32(means["text"]), np.float32(means["image"])),
        )
    await store.close()

    def scores(query: Query, name: str) -> dict[str, float]:
        ids, rows, means = vectors[name]
        return dict(zip(ids, (rows @ compose([query.term(models[name])], means)).tolist(), strict=True))

    for query, answer in answers:
        exact = scores(query, answer["collection"])
        got = [hit["score"] for hit in answer["hits"]]
        assert got == pytest.approx([exact[hit["id"]] for hit in answer["hits"]], abs=1e-4)
        assert got == pytest.approx(sorted(exact.values(), reverse=True)[:LIMIT], abs=1e-4)
        other = next(name for name in models if name != answer["collection"])
        assert got != pytest.approx(sorted(scores(query, other).values(), reverse=True)[:LIMIT], abs=1e-4)
