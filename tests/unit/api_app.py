"""The API as tests run it: no Ray, the fake encoder, a store in memory or in a folder."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from search_core.collections import publish
from search_core.encoder import load_encoder
from search_core.fake import COLOURS
from search_core.model import resolve_model
from search_core.payload import image_payload
from search_core.pictures import file_uri
from search_core.points import Batch, point_id
from search_core.preprocess import pixels_of
from search_core.settings import ImageSettings, ModelSettings, ServeSettings, Settings, StoreSettings
from search_core.store import Store, new_collection_name
from search_core.stores import open_store
from serve_app.api import build_api
from serve_app.library import Library
from serve_app.messages import Encoded, EncoderStatus
from serve_app.retrieval import Retrieval
from serve_app.service import SearchService
from serve_app.status import Status

PER_COLOUR = 3
PROBLEM = "application/problem+json"


def picture(colour: str | tuple[int, int, int], size: tuple[int, int] = (48, 32), kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


@dataclass
class PlainEncoders:
    """What the encoder deployments do, without Ray or batches. `fail` is raised instead, when set."""

    settings: Settings
    fail: Exception | None = None
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spec = resolve_model(self.settings.model.name)
        self.fingerprint = self.spec.fingerprint
        self._encoder = load_encoder(self.spec, self.settings.model)

    async def text(self, text: str) -> Encoded:
        if self.fail:
            raise self.fail
        self.texts.append(text)
        return Encoded(self._encoder.encode_texts([text])[0], self.fingerprint)

    async def image(self, data: bytes) -> Encoded:
        if self.fail:
            raise self.fail
        pixels = pixels_of(data, self.spec.preprocess, self.settings.image)
        return Encoded(self._encoder.encode_pixels(pixels[None])[0], self.fingerprint)

    async def status(self) -> EncoderStatus:
        if self.fail:
            raise self.fail
        return EncoderStatus(self.fingerprint, "cpu", "fp32")


@dataclass
class ApiUnderTest:
    client: httpx.AsyncClient
    settings: Settings
    store: Store
    encoders: PlainEncoders
    retrieval: Retrieval
    collection: str
    ids: dict[str, list[str]]

    async def search(self, **request: Any) -> httpx.Response:
        return await self.client.post("/search", json=request)

    async def hit_ids(self, **request: Any) -> list[str]:
        response = await self.search(**request)
        assert response.status_code == 200, response.text
        return [hit["id"] for hit in response.json()["hits"]]


@asynccontextmanager
async def running_api(folder: Path, kind: str = "edge", *, index: bool = True) -> AsyncIterator[ApiUnderTest]:
    """The API over a store with PER_COLOUR pictures of each colour, in folders named by colour."""
    url = ":memory:" if kind == "memory" else None
    settings = Settings(
        store=StoreSettings(path=folder / "store", qdrant_url=url),
        model=ModelSettings(name="fake"),
        image=ImageSettings(max_image_mb=0.2, max_megapixels=1, thumbnail_px=32),
        serve=ServeSettings(max_upload_mb=0.2, fetch_timeout_s=2),
    )
    encoders = PlainEncoders(settings)
    store = open_store(settings.store)
    name = new_collection_name("images", encoders.spec)
    ids: dict[str, list[str]] = {}
    if index:
        await store.create(name, encoders.spec)
        ids = await _fill(store, name, folder / "pictures", encoders)
        await publish(store, "images", name)
    retrieval = Retrieval(store, "images")
    service = SearchService(encoders.spec, settings, encoders.text, encoders.image, retrieval)
    library = Library(settings, encoders.image, retrieval)
    status = Status(encoders.spec, "qdrant" if url else "embedded", encoders, encoders, retrieval)
    app = build_api(service, library, status, settings)
    transport = httpx.ASGITransport(app, root_path="/api", raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test/api") as client:
        yield ApiUnderTest(client, settings, store, encoders, retrieval, name, ids)
    await store.close()


async def _fill(store: Store, name: str, folder: Path, encoders: PlainEncoders) -> dict[str, list[str]]:
    ids: dict[str, list[str]] = {}
    vectors, payloads = [], []
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True)
        for number in range(PER_COLOUR):
            width = 40 + 10 * number
            data = picture(colour, (width, 50))
            path = folder / colour / f"{colour}-{number}.png"
            path.write_bytes(data)
            ids.setdefault(colour, []).append(point_id(file_uri(path)))
            vectors.append((await encoders.image(data)).vector)
            payloads.append(
                image_payload(
                    file_uri(path),
                    width=width,
                    height=50,
                    format="png",
                    size_bytes=len(data),
                    content_hash=sha256(data).hexdigest(),
                    source_version=f"{len(data)}:0",
                    modified=datetime(2026, 1, 1, tzinfo=UTC),
                    captions=[f"a {colour} picture"],
                )
            )
    flat = [id for group in ids.values() for id in group]
    await store.upsert(name, Batch(flat, np.stack(vectors), payloads))
    return ids
