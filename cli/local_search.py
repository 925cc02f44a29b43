"""The query path in this process: the server's own classes round an encoder and a store, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search_core.encoder import Encoder, load_encoder
from search_core.model import resolve_model
from search_core.preprocess import pixels_of
from search_core.settings import Settings
from search_core.store import Store, published
from serve_app.messages import Encoded
from serve_app.retrieval import Retrieval
from serve_app.service import SearchService

TEXT_BATCH = 64


class LocalEncoders:
    """Encodes for one `SearchService`."""

    def __init__(self, encoder: Encoder, settings: Settings) -> None:
        self._encoder = encoder
        self._settings = settings
        self._fingerprint = encoder.spec.fingerprint

    async def encode_text(self, text: str) -> Encoded:
        """The vector of one text."""
        return self.encode_texts([text])[0]

    def encode_texts(self, texts: Sequence[str]) -> list[Encoded]:
        """The vectors of texts, in batches."""
        groups = (texts[start : start + TEXT_BATCH] for start in range(0, len(texts), TEXT_BATCH))
        vectors = (vector for group in groups for vector in self._encoder.encode_texts(group))
        return [Encoded(vector, self._fingerprint) for vector in vectors]

    async def encode_image(self, data: bytes) -> Encoded:
        """The vector of one picture file."""
        pixels = pixels_of(data, self._encoder.spec.preprocess, self._settings.image)
        return Encoded(self._encoder.encode_pixels(pixels[np.newaxis])[0], self._fingerprint)


@dataclass(frozen=True)
class LocalSearch:
    """The parts of a server that answer queries."""

    service: SearchService
    encoders: LocalEncoders
    retrieval: Retrieval


async def local_search(store: Store, settings: Settings) -> LocalSearch:
    """Search over `store`, with the encoder that its published collection was made by.

    Raises:
        NotFoundError: nothing is published.
        ModelMismatchError: the model of that name has changed since the collection was made.
    """
    alias = settings.store.collection
    collection = await published(store, alias)
    spec = resolve_model(collection.spec.name)
    collection.require(spec)
    encoders = LocalEncoders(load_encoder(spec, settings.model), settings)
    retrieval = Retrieval(store, alias)
    service = SearchService(spec, settings, encoders.encode_text, encoders.encode_image, retrieval)
    return LocalSearch(service, encoders, retrieval)
