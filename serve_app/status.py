"""Whether the server can answer, and what it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from search_core.errors import NothingPublishedError, OverloadedError
from search_core.filters import Filter
from search_core.model import ModelSpec
from serve_app.messages import CollectionInfo, EncoderStatus, Pin
from serve_app.pins import Pins

CHECK_TIMEOUT_S = 5.0


class EncoderCalls(Protocol):
    """The part of an encoder that tells of itself."""

    async def prepare(self, spec: ModelSpec) -> None:
        """Loads a model unless it is held."""

    async def status(self) -> EncoderStatus:
        """What runs there."""


class StoreCalls(Protocol):
    """The part of `Retrieval` that tells of the store."""

    async def facets(
        self, fields: Sequence[str], where: Filter, limit: int, collection: str
    ) -> dict[str, dict[str, int]]:
        """The commonest values of each field and how many pictures have them."""

    async def collections(self) -> list[CollectionInfo]:
        """All collections."""

    async def collection(self, name: str) -> CollectionInfo:
        """One collection."""

    async def unindexed(self, name: str) -> int:
        """How many of its vectors are outside the HNSW index."""


class Status:
    """What the status routes call. `first` is the model that is named before the first index."""

    def __init__(
        self,
        first: ModelSpec,
        store_kind: str,
        text: EncoderCalls,
        image: EncoderCalls,
        store: StoreCalls,
        pins: Pins,
    ) -> None:
        self._first = first
        self._store_kind = store_kind
        self._encoders = {"text": text, "image": image}
        self._store = store
        self._pins = pins

    async def ready(self) -> CollectionInfo:
        """The served collection, once everything that a query needs answers and fits together.

        Raises:
            NothingPublishedError: there is no index yet.
            ModelError, ModelMismatchError: the collection's model cannot be loaded, or is another one now.
            StoreUnavailableError, OverloadedError: something does not answer, or loads the model still.
        """
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                return await self._pins.answer(None, self._ready)
        except TimeoutError:
            raise OverloadedError(f"no answer within {CHECK_TIMEOUT_S:g} s: try again in a moment") from None

    async def overview(self) -> dict[str, Any]:
        """What is served, in plain values; `collection` is None before the first index."""
        try:
            served = await self._pins.answer(None, self._served)
        except NothingPublishedError:
            served = {**_model(self._first), "collection": None, "total_indexed": 0, "unindexed": 0}
        encoders = {name: await encoder.status() for name, encoder in self._encoders.items()}
        switch = self._pins.switch
        return {
            **served,
            "store": self._store_kind,
            "encoders": {
                name: {"device": one.device, "precision": one.precision} for name, one in encoders.items()
            },
            "next": switch
            and {"collection": switch.to.collection, "model": switch.to.spec.name, "error": switch.error},
        }

    async def collections(self) -> list[CollectionInfo]:
        """What the store holds."""
        return await self._store.collections()

    async def facets(
        self, fields: Sequence[str], where: Filter, limit: int, collection: str | None
    ) -> dict[str, dict[str, int]]:
        """The commonest values of each field among the pictures of a collection, or of the served one."""
        return await self._pins.answer(
            collection, lambda pin: self._store.facets(fields, where, limit, pin.collection)
        )

    async def _ready(self, pin: Pin) -> CollectionInfo:
        for encoder in self._encoders.values():
            await encoder.prepare(pin.spec)
        return await self._store.collection(pin.collection)

    async def _served(self, pin: Pin) -> dict[str, Any]:
        found = await self._store.collection(pin.collection)
        unindexed = await self._store.unindexed(pin.collection)
        return {
            **_model(pin.spec),
            "collection": found.name,
            "total_indexed": found.count,
            "unindexed": unindexed,
        }


def _model(spec: ModelSpec) -> dict[str, Any]:
    return {"model": spec.name, "fingerprint": spec.fingerprint, "dim": spec.dim}
