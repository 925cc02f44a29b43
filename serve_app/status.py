"""Whether the server can answer, and what it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from search_core.errors import ModelMismatchError, OverloadedError
from search_core.filters import Filter
from search_core.model import ModelSpec
from serve_app.messages import CollectionInfo, EncoderStatus

CHECK_TIMEOUT_S = 5.0


class EncoderCalls(Protocol):
    """The part of an encoder that tells of itself."""

    async def status(self) -> EncoderStatus:
        """What runs there."""


class StoreCalls(Protocol):
    """The part of `Retrieval` that tells of the store."""

    async def facets(
        self, fields: Sequence[str], where: Filter, limit: int, collection: str | None = None
    ) -> dict[str, dict[str, int]]:
        """The commonest values of each field and how many pictures have them."""

    async def collections(self) -> list[CollectionInfo]:
        """All collections."""

    async def published(self) -> CollectionInfo:
        """The collection that queries see."""

    async def unindexed(self) -> int:
        """How many of its vectors are outside the HNSW index."""


class Status:
    """What the status routes call."""

    def __init__(
        self, spec: ModelSpec, store_kind: str, text: EncoderCalls, image: EncoderCalls, store: StoreCalls
    ) -> None:
        self._spec = spec
        self._store_kind = store_kind
        self._encoders = {"text": text, "image": image}
        self.store = store

    async def ready(self) -> CollectionInfo:
        """The published collection, once everything that a query needs answers and fits together.

        Raises:
            NothingPublishedError: there is no index yet.
            ModelMismatchError: the collection is of another model than the encoders.
            StoreUnavailableError, OverloadedError: something does not answer.
        """
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                collection = await self.store.published()
                encoders = await self._encoder_status()
        except TimeoutError:
            raise OverloadedError(f"no answer within {CHECK_TIMEOUT_S:g} s: try again in a moment") from None
        for name, encoder in encoders.items():
            if encoder.fingerprint != collection.fingerprint:
                raise ModelMismatchError(
                    f"collection {collection.name} was made by model {collection.model} ({collection.fingerprint}), "
                    f"the {name} encoder runs {self._spec.name} ({encoder.fingerprint}): restart the server"
                )
        return collection

    async def overview(self) -> dict[str, Any]:
        """What is served, in plain values; `collection` is None before the first index."""
        encoders = await self._encoder_status()
        return {
            "model": self._spec.name,
            "fingerprint": self._spec.fingerprint,
            "dim": self._spec.dim,
            "store": self._store_kind,
            "encoders": {
                name: {"device": one.device, "precision": one.precision} for name, one in encoders.items()
            },
        }

    async def _encoder_status(self) -> dict[str, EncoderStatus]:
        return {name: await encoder.status() for name, encoder in self._encoders.items()}
