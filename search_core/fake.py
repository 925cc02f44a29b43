"""A deterministic encoder without weights: runs the whole graph in tests and rehearsals in milliseconds.

It knows colours only: a picture's vector comes from its mean colour, a text's from the colour words in it,
both through one fixed random projection, so that "red" finds red pictures. Other words add a little of
their own hash, which keeps different texts apart.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import numpy as np

from search_core.model import ModelSpec
from search_core.points import Vectors
from search_core.preprocess import Pixels

COLOURS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 0.8, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "cyan": (0.0, 1.0, 1.0),
    "magenta": (1.0, 0.0, 1.0),
    "orange": (1.0, 0.5, 0.0),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "grey": (0.5, 0.5, 0.5),
}
WORD_WEIGHT = 0.05
PATCHES = 4


class FakeEncoder:
    """See the module's docstring. Same bytes and same text give the same vector on every machine.

    `delay_s` is how long it takes for each input, to rehearse the load of a real model.
    """

    device = "cpu"
    precision = "fp32"

    def __init__(self, spec: ModelSpec, *, delay_s: float = 0.0) -> None:
        self.spec = spec
        self._delay_s = delay_s
        rng = np.random.default_rng(20_240_101)
        self._colour = rng.normal(size=(3, spec.dim)).astype(np.float32)
        self._texture = 0.05 * rng.normal(size=(3 * PATCHES * PATCHES, spec.dim)).astype(np.float32)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Vectors of n texts: float32 [n, dim], L2 norm 1."""
        time.sleep(self._delay_s * len(texts))
        return _unit(np.stack([self._text(text) for text in texts])) if texts else self._none()

    def encode_pixels(self, pixels: Pixels) -> Vectors:
        """Vectors of uint8 [n, height, width, 3]: float32 [n, dim], L2 norm 1."""
        if not len(pixels):
            return self._none()
        time.sleep(self._delay_s * len(pixels))
        n, height, width, _ = pixels.shape
        scaled = pixels.astype(np.float32) / 255.0 - 0.5
        rows, columns = height // PATCHES, width // PATCHES
        cut = scaled[:, : rows * PATCHES, : columns * PATCHES]
        patches = cut.reshape(n, PATCHES, rows, PATCHES, columns, 3).mean(axis=(2, 4))
        colour = patches.mean(axis=(1, 2))
        texture = (patches - colour[:, None, None, :]).reshape(n, -1)
        return _unit(colour @ self._colour + texture @ self._texture + 1e-3)

    def _text(self, text: str) -> Vectors:
        words = text.lower().split()
        named = [COLOURS[word] for word in words if word in COLOURS]
        vector = np.full(self.spec.dim, 1e-3, dtype=np.float32)
        if named:
            vector += (np.mean(named, axis=0, dtype=np.float32) - 0.5) @ self._colour
        for word in words:
            if word not in COLOURS:
                seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
                vector += WORD_WEIGHT * np.random.default_rng(seed).normal(size=self.spec.dim).astype(
                    np.float32
                )
        return vector

    def _none(self) -> Vectors:
        return np.zeros((0, self.spec.dim), dtype=np.float32)


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = (vectors / np.maximum(norms, 1e-12)).astype(np.float32)
    return unit
