"""The encoder deployments: texts or compressed pictures to vectors, in batches that fill themselves.

The model runs in a thread of its own, one batch at a time, so that the replica's event loop stays free to
gather the next batch. Batch sizes come from `user_config` and can change while the replica runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from search_core.encoder import Encoder, load_encoder
from search_core.model import ModelSpec
from search_core.points import Vectors
from search_core.preprocess import Pixels, pixels_of
from search_core.settings import ImageSettings, ModelSettings
from serve_app.messages import Encoded, EncoderStatus

DECODERS = 2


class Batching(BaseModel):
    """The `user_config` of an encoder deployment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_batch_size: int = Field(16, ge=1, description="most inputs in one call of the model")
    batch_wait_timeout_s: float = Field(0.004, ge=0, description="how long a batch waits for company")

    def apply(self, batched: Any) -> None:
        """Sets a method that `serve.batch` made."""
        batched.set_max_batch_size(self.max_batch_size)
        batched.set_batch_wait_timeout_s(self.batch_wait_timeout_s)


class ModelThread:
    """An encoder and the one thread that may use it. `warm_up` is called once, so that no user waits for it."""

    def __init__(
        self, spec: ModelSpec, settings: ModelSettings, warm_up: Callable[[Encoder], object]
    ) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._encoder = self._thread.submit(load_encoder, spec, settings).result()
        self._thread.submit(warm_up, self._encoder).result()
        self._fingerprint = spec.fingerprint
        self.status = EncoderStatus(spec.fingerprint, self._encoder.device, self._encoder.precision)

    async def texts(self, texts: Sequence[str]) -> list[Encoded]:
        """The vectors of a batch of texts."""
        return await self._run(self._encoder.encode_texts, texts)

    async def pixels(self, batch: Sequence[Pixels]) -> list[Encoded]:
        """The vectors of a batch of uint8 [height, width, 3] in the model's size."""
        return await self._run(lambda: self._encoder.encode_pixels(np.stack(batch)))

    async def _run(self, call: Any, *args: Any) -> list[Encoded]:
        vectors: Vectors = await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)
        return [Encoded(vector, self._fingerprint) for vector in vectors]


class TextEncoder:
    """Encodes texts."""

    def __init__(self, spec: ModelSpec, settings: ModelSettings) -> None:
        self._model = ModelThread(spec, settings, lambda encoder: encoder.encode_texts(["a picture"]))

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Takes the batching of the Serve config."""
        Batching(**user_config).apply(self._batch)

    async def encode(self, text: str) -> Encoded:
        """The vector of one text."""
        encoded: Encoded = await self._batch(text)
        return encoded

    async def status(self) -> EncoderStatus:
        """What runs here."""
        return self._model.status

    @serve.batch
    async def _batch(self, texts: list[str]) -> list[Encoded]:
        return await self._model.texts(texts)


class ImageEncoder:
    """Encodes compressed pictures. One that cannot be decoded fails alone, before it joins a batch."""

    def __init__(self, spec: ModelSpec, settings: ModelSettings, limits: ImageSettings) -> None:
        self._preprocess = spec.preprocess
        self._limits = limits
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        grey = np.full((1, *spec.preprocess.size, 3), 127, dtype=np.uint8)
        self._model = ModelThread(spec, settings, lambda encoder: encoder.encode_pixels(grey))

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Takes the batching of the Serve config."""
        Batching(**user_config).apply(self._batch)

    async def encode(self, data: bytes) -> Encoded:
        """The vector of one picture file.

        Raises:
            ImageError: the bytes are no usable picture.
        """
        loop = asyncio.get_running_loop()
        pixels = await loop.run_in_executor(self._decoders, pixels_of, data, self._preprocess, self._limits)
        encoded: Encoded = await self._batch(pixels)
        return encoded

    async def status(self) -> EncoderStatus:
        """What runs here."""
        return self._model.status

    @serve.batch
    async def _batch(self, pixels: list[Pixels]) -> list[Encoded]:
        return await self._model.pixels(pixels)
