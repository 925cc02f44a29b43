"""The stages of the pipeline, as Ray Data runs them. Each takes and gives batches of columns (dict of arrays).

| stage | columns in | columns out | drops |
| --- | --- | --- | --- |
| `Decode` | uri, version, description | id, uri, version, pixels, payload, reason, error | nothing |
| `Embed` | as above | the same, `vector` instead of `pixels` | nothing |
| `Write` | as above | uri, version, reason, error | nothing: every row is acknowledged |

A broken picture travels as a row with a `reason` and an `error`; its pixels are zeros and are not embedded.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import numpy as np

from batch_index.sources import Reader
from search_core.encoder import load_encoder
from search_core.errors import ImageError
from search_core.image import decode_rgb
from search_core.model import ModelSpec, Preprocess
from search_core.payload import image_payload
from search_core.points import Batch, point_id
from search_core.preprocess import Pixels, to_pixels
from search_core.settings import ImageSettings, ModelSettings, SourceSettings
from search_core.store import Store

Columns = dict[str, Any]
DECODE_THREADS = 4


class Decode:
    """Reads files and decodes them to the model's pixels: uint8 [n, height, width, 3]."""

    def __init__(
        self, preprocess: Preprocess, limits: ImageSettings, source: SourceSettings | None = None
    ) -> None:
        self._preprocess = preprocess
        self._limits = limits
        self._reader = Reader(source or SourceSettings(), limits)

    def __call__(self, batch: Columns) -> Columns:
        """One batch of files; `payload` is a JSON text."""
        rows = list(zip(batch["uri"], batch["version"], batch["description"], strict=True))
        places = [(str(uri), str(json.loads(known).get("expected", ""))) for uri, _, known in rows]
        with ThreadPoolExecutor(DECODE_THREADS) as pool:
            done = list(
                pool.map(
                    lambda row, data: self._one(row[0], row[1], row[2], data), rows, self._reader.read(places)
                )
            )
        height, width = self._preprocess.size
        pixels = np.zeros((len(done), height, width, 3), dtype=np.uint8)
        for index, (picture, _, _, _) in enumerate(done):
            if picture is not None:
                pixels[index] = picture
        return {
            "id": np.array([point_id(str(uri)) for uri in batch["uri"]]),
            "uri": batch["uri"],
            "version": batch["version"],
            "pixels": pixels,
            "payload": np.array([payload for _, payload, _, _ in done]),
            "reason": np.array([reason for _, _, reason, _ in done]),
            "error": np.array([error for _, _, _, error in done]),
        }

    def _one(
        self, uri: str, version: str, description: str, data: bytes | ImageError
    ) -> tuple[Pixels | None, str, str, str]:
        try:
            if isinstance(data, ImageError):
                raise data
            image = decode_rgb(data, self._limits, min_side=max(self._preprocess.size))
            pixels = to_pixels(image.rgb, self._preprocess)
        except ImageError as error:
            return None, "", error.reason, error.message
        known = json.loads(description)
        payload = image_payload(
            uri,
            width=image.width,
            height=image.height,
            format=image.format,
            size_bytes=len(data),
            content_hash=hashlib.sha256(data).hexdigest(),
            source_version=version,
            modified=datetime.fromisoformat(known["modified"]) if known["modified"] else None,
            captions=known["captions"],
            extra=known["columns"],
        )
        return pixels, json.dumps(payload), "", ""


class Embed:
    """Pixels to vectors: float32 [n, dim], L2 norm 1 (zeros for broken rows). One encoder an actor."""

    def __init__(self, spec: ModelSpec, settings: ModelSettings) -> None:
        self._encoder = load_encoder(spec, settings)
        self._dim = spec.dim

    def __call__(self, batch: Columns) -> Columns:
        """One batch through the encoder."""
        pixels = batch.pop("pixels")
        good = batch["reason"] == ""
        vectors = np.zeros((len(good), self._dim), dtype=np.float32)
        if good.any():
            vectors[good] = self._encoder.encode_pixels(pixels[good])
        return {**batch, "vector": vectors}


class Write:
    """Vectors into the collection; a row is given back once the store has it."""

    def __init__(self, open_store: Callable[[], Store], collection: str) -> None:
        self._runner = asyncio.Runner()  # one event loop for the actor's life, as gRPC wants
        self._store = open_store()
        self._collection = collection

    def __call__(self, batch: Columns) -> Columns:
        """One batch of points, written at once."""
        good = batch["reason"] == ""
        points = Batch(
            ids=[str(id) for id in batch["id"][good]],
            vectors=np.asarray(batch["vector"][good], dtype=np.float32),
            payloads=[json.loads(text) for text in batch["payload"][good]],
        )
        self._runner.run(self._store.upsert(self._collection, points))
        return {key: batch[key] for key in ("uri", "version", "reason", "error")}
