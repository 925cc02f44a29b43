"""The encoder seam: texts and pixels to vectors, whatever model does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from search_core.heavy_imports import collector_paused
from search_core.model import ModelSpec
from search_core.points import Vectors
from search_core.preprocess import Pixels
from search_core.settings import ModelSettings


class Encoder(Protocol):
    """Maps texts and pictures into one space. Not thread-safe: one call at a time."""

    spec: ModelSpec
    device: str
    precision: str

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Vectors of n texts: float32 [n, dim], L2 norm 1."""

    def encode_pixels(self, pixels: Pixels) -> Vectors:
        """Vectors of uint8 [n, height, width, 3] in the spec's size: float32 [n, dim], L2 norm 1."""


def load_encoder(spec: ModelSpec, settings: ModelSettings) -> Encoder:
    """Loads the encoder of `spec` on the device and in the precision that `settings` or the machine choose.

    Raises:
        ModelError: its weights cannot be loaded, or the device is not there.
    """
    if spec.architecture == "fake":
        from search_core.fake import FakeEncoder

        return FakeEncoder(spec, delay_s=settings.fake_delay_ms / 1000)
    with collector_paused():
        from search_core.clip import OpenClipEncoder

    return OpenClipEncoder(spec, settings)
