"""The embedding stage of an index run with a model that waits as one on a GPU does: so many pictures a second, no core.

A module of its own, so that the processes of Ray find the class by its name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from batch_index.pipeline import EmbedPacked
from search_core.points import Vectors
from search_core.preprocess import Pixels

PACE_VARIABLE = "BENCHMARK_IMAGES_PER_S"


class SlowEmbed(EmbedPacked):
    """`EmbedPacked` but for the model."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "to_embed": False})
        model = SlowModel(self._dim, float(os.environ[PACE_VARIABLE]))
        self._load = lambda: model  # type: ignore[assignment,return-value]


class SlowModel:
    """Random vectors at a set pace."""

    def __init__(self, dim: int, images_per_s: float) -> None:
        self._dim, self._images_per_s = dim, images_per_s
        self._rng = np.random.default_rng(0)

    def encode_pixels(self, pixels: Pixels) -> Vectors:
        """float32 [n, dim], L2 norm 1."""
        time.sleep(len(pixels) / self._images_per_s)
        return self._some(len(pixels))

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """float32 [n, dim], L2 norm 1, at once."""
        return self._some(len(texts))

    def _some(self, count: int) -> Vectors:
        vectors = self._rng.normal(size=(count, self._dim)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
