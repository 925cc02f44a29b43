"""The encoder deployments: texts or compressed pictures to vectors, in batches that fill themselves.

Each call says which model is to encode it. A model runs in a thread of its own, one batch at a time, so that the
replica's event loop stays free to gather the next batch. Batch sizes come from `user_config` and can change while
the replica runs.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from search_core.encoder import Encoder
from search_core.model import ModelSpec
from search_core.preprocess import Pixels, pixels_of
from search_core.settings import ImageSettings, ModelSettings
from serve_app.held_models import HeldModels, Item, ModelThread, encode_by_model
from serve_app.logs import log_through_serve
from serve_app.messages import Encoded, EncoderStatus
from serve_app.metrics import BatchMetrics
from serve_app.tracing import span

DECODERS = 2

logger = logging.getLogger(__name__)


class Batching(BaseModel):
    """The `user_config` of an encoder deployment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_batch_size: int = Field(16, ge=1, description="most inputs in one call of the model")
    batch_wait_timeout_s: float = Field(0.004, ge=0, description="how long a batch waits for company")

    def apply(self, batched: Any) -> None:
        """Sets a method that `serve.batch` made."""
        batched.set_max_batch_size(self.max_batch_size)
        batched.set_batch_wait_timeout_s(self.batch_wait_timeout_s)


class TextEncoder:
    """Encodes texts. `first` is the model that is loaded before the replica takes calls."""

    def __init__(self, first: ModelSpec, settings: ModelSettings) -> None:
        log_through_serve()
        self._metrics = BatchMetrics("text")
        self._models = HeldModels(first, lambda spec: ModelThread(spec, settings, _encode_a_text))

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Takes the batching of the Serve config."""
        Batching(**user_config).apply(self._batch)

    async def encode(self, text: str, spec: ModelSpec) -> Encoded:
        """The vector of one text by the model of a collection's stamp.

        Raises:
            ModelError: it cannot be loaded. ModelMismatchError: the model of that name is another one now.
        """
        async with self._models.using(spec) as model:
            encoded = _vector(await self._batch(Item(model, text)))
        logger.debug("encoded a text of %d characters", len(text))
        return encoded

    async def prepare(self, spec: ModelSpec) -> None:
        """Loads a model unless it is held.

        Raises:
            ModelError, ModelMismatchError: as `encode`.
        """
        async with self._models.using(spec):
            pass

    async def check_health(self) -> None:
        """Asked by Serve now and then: a replica whose model does not answer in time is replaced."""
        await self._models.check()

    async def status(self) -> EncoderStatus:
        """What runs here."""
        return self._models.status()

    @serve.batch
    async def _batch(self, items: list[Item[str]]) -> list[Encoded | Exception]:
        self._metrics.batch(len(items))
        with span("batch", size=len(items)):
            return await encode_by_model(items, ModelThread.texts)


class ImageEncoder:
    """Encodes compressed pictures. One that cannot be decoded fails alone, before it joins a batch."""

    def __init__(self, first: ModelSpec, settings: ModelSettings, limits: ImageSettings) -> None:
        log_through_serve()
        self._metrics = BatchMetrics("image")
        self._limits = limits
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        self._models = HeldModels(first, lambda spec: ModelThread(spec, settings, _encode_a_picture))

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Takes the batching of the Serve config."""
        Batching(**user_config).apply(self._batch)

    async def encode(self, data: bytes, spec: ModelSpec) -> Encoded:
        """The vector of one picture file by the model of a collection's stamp.

        Raises:
            ImageError: the bytes are no usable picture.
            ModelError: the model cannot be loaded. ModelMismatchError: the model of that name is another one now.
        """
        loop = asyncio.get_running_loop()
        async with self._models.using(spec) as model:
            pixels = await loop.run_in_executor(
                self._decoders, pixels_of, data, model.spec.preprocess, self._limits
            )
            encoded = _vector(await self._batch(Item(model, pixels)))
        logger.debug("encoded a picture of %d bytes", len(data))
        return encoded

    async def prepare(self, spec: ModelSpec) -> None:
        """Loads a model unless it is held.

        Raises:
            ModelError, ModelMismatchError: as `encode`.
        """
        async with self._models.using(spec):
            pass

    async def check_health(self) -> None:
        """Asked by Serve now and then: a replica whose model does not answer in time is replaced."""
        await self._models.check()

    async def status(self) -> EncoderStatus:
        """What runs here."""
        return self._models.status()

    @serve.batch
    async def _batch(self, items: list[Item[Pixels]]) -> list[Encoded | Exception]:
        self._metrics.batch(len(items))
        with span("batch", size=len(items)):
            return await encode_by_model(items, ModelThread.pixels)


def _encode_a_text(encoder: Encoder) -> None:
    encoder.encode_texts(["a picture"])


def _encode_a_picture(encoder: Encoder) -> None:
    encoder.encode_pixels(np.full((1, *encoder.spec.preprocess.size, 3), 127, dtype=np.uint8))


def _vector(answer: Encoded | Exception) -> Encoded:
    if isinstance(answer, Exception):
        raise answer
    return answer
