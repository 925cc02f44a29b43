"""The query path in this process: the server's own classes round an encoder and a store, without Ray."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from search_core.encoder import Encoder, load_encoder
from search_core.model import ModelSpec, resolve_model
from search_core.preprocess import pixels_of
from search_core.settings import Settings
from search_core.store import Collection, Store, published
from serve_app.messages import Encoded, Pin
from serve_app.retrieval import Retrieval
from serve_app.service import SearchService

TEXT_BATCH = 64

T = TypeVar("T")


class LocalEncoders:
    """Encodes for one `SearchService`, with one model."""

    def __init__(self, encoder: Encoder, settings: Settings) -> None:
        self._encoder = encoder
        self._settings = settings
        self._fingerprint = encoder.spec.fingerprint

    async def encode_text(self, text: str, spec: ModelSpec) -> Encoded:
        """The vector of one text."""
        self._require(spec)
        return self.encode_texts([text])[0]

    def encode_texts(self, texts: Sequence[str]) -> list[Encoded]:
        """The vectors of texts, in batches."""
        groups = (texts[start : start + TEXT_BATCH] for start in range(0, len(texts), TEXT_BATCH))
        vectors = (vector for group in groups for vector in self._encoder.encode_texts(group))
        return [Encoded(vector, self._fingerprint) for vector in vectors]

    async def encode_image(self, data: bytes, spec: ModelSpec) -> Encoded:
        """The vector of one picture file."""
        self._require(spec)
        pixels = pixels_of(data, self._encoder.spec.preprocess, self._settings.image)
        return Encoded(self._encoder.encode_pixels(pixels[np.newaxis])[0], self._fingerprint)

    def _require(self, spec: ModelSpec) -> None:
        assert spec.fingerprint == self._fingerprint  # `OnePin` gives no other


@dataclass(frozen=True)
class OnePin:
    """The collection and model of one command, which asks for no other."""

    only: Pin

    async def pin(self, name: str | None = None) -> Pin:
        """The pin."""
        return self.only

    async def answer(self, name: str | None, call: Callable[[Pin], Awaitable[T]]) -> T:
        """What `call` makes of it."""
        return await call(self.only)


@dataclass(frozen=True)
class LocalSearch:
    """The parts of a server that answer queries, and the collection that they answer from."""

    collection: str
    service: SearchService
    encoders: LocalEncoders
    retrieval: Retrieval


async def local_search(store: Store, settings: Settings, collection: Collection | None = None) -> LocalSearch:
    """Search over a collection of `store`, the published one unless named, with the encoder that it was made by.

    Raises:
        NotFoundError: nothing is published.
        ModelMismatchError: the model of that name has changed since the collection was made.
    """
    alias = settings.store.collection
    collection = collection or await published(store, alias)
    pins = OnePin(Pin(collection.name, collection.spec))
    spec = resolve_model(collection.spec.name)
    collection.require(spec)
    encoders = LocalEncoders(load_encoder(spec, settings.model), settings)
    retrieval = Retrieval(store, alias)
    service = SearchService(spec, settings, encoders.encode_text, encoders.encode_image, retrieval, pins)
    return LocalSearch(collection.name, service, encoders, retrieval)
