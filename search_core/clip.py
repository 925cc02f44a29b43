"""Any open_clip model as an encoder, on the device and in the precision that suit the machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from search_core.allocator import keep_freed_memory
from search_core.errors import ModelError
from search_core.heavy_imports import import_open_clip
from search_core.model import ModelSpec
from search_core.points import Vectors
from search_core.preprocess import Pixels
from search_core.settings import ModelSettings

CPU_BATCH = 16
"""Pictures of one pass on a CPU: more only crowd its caches. A GPU takes what it is given."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class OpenClipEncoder:
    """An open_clip model with its weights converted (not autocast) to one precision, in evaluation mode."""

    def __init__(self, spec: ModelSpec, settings: ModelSettings) -> None:
        """Loads the weights.

        Raises:
            ModelError: the weights cannot be loaded, do not fit the spec, or the device is not there.
        """
        self.spec = spec
        self.device = choose_device(settings.device)
        self.precision = choose_precision(settings.precision, self.device)
        if self.device == "cpu":
            keep_freed_memory()
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._dtype = DTYPES[self.precision]
        self._model, self._tokenizer = _load(spec, self.device)
        # channels_last: convolutions on a CPU run two to three times as fast
        self._model.to(dtype=self._dtype, memory_format=torch.channels_last).eval()
        # float32 mean and std of pixels in 0..255, shaped to broadcast over [n, 3, height, width]
        self._mean = torch.tensor(spec.preprocess.mean, device=self.device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(spec.preprocess.std, device=self.device).view(1, 3, 1, 1) * 255
        probe = self.encode_texts(["a"])
        if probe.shape[1] != spec.dim:
            raise ModelError(
                f"model {spec.name!r} gives {probe.shape[1]} dimensions, its configuration says {spec.dim}"
            )

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Vectors of n texts: float32 [n, dim], L2 norm 1. Words beyond the model's context are cut."""
        if not texts:
            return np.zeros((0, self.spec.dim), dtype=np.float32)
        tokens = self._tokenizer(list(texts)).to(self.device)
        return _unit(self._model.encode_text(tokens))

    @torch.inference_mode()
    def encode_pixels(self, pixels: Pixels) -> Vectors:
        """Vectors of uint8 [n, height, width, 3]: float32 [n, dim], L2 norm 1."""
        if not len(pixels):
            return np.zeros((0, self.spec.dim), dtype=np.float32)
        step = CPU_BATCH if self.device == "cpu" else len(pixels)
        return np.concatenate([self._pass(pixels[i : i + step]) for i in range(0, len(pixels), step)])

    def _pass(self, pixels: Pixels) -> Vectors:
        # a copy, as arrays from Ray's object store are read-only and torch wants them writable
        batch = torch.from_numpy(np.array(pixels)).to(self.device).permute(0, 3, 1, 2)
        normal = (batch.float() - self._mean) / self._std
        laid_out = normal.to(dtype=self._dtype, memory_format=torch.channels_last)
        return _unit(self._model.encode_image(laid_out))


def choose_device(wanted: str) -> str:
    """The device to run on: `auto` takes a GPU where torch sees one, else the CPU.

    Raises:
        ModelError: a device was named that torch does not see.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device {wanted!r} is not usable: {str(error).splitlines()[0]}") from None
    return wanted


def choose_precision(wanted: str, device: str) -> str:
    """The precision of the weights: `auto` takes 16 bits only where the device computes them natively."""
    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device == "mps":
        return "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"


def _load(spec: ModelSpec, device: str) -> tuple[Any, Any]:
    open_clip = import_open_clip()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        model = open_clip.create_model(
            spec.architecture,
            pretrained=spec.pretrained,
            device=device,
            require_pretrained=True,
        )
        tokenizer = open_clip.get_tokenizer(spec.architecture)
    except Exception as error:  # open_clip, torch and the hub each raise their own
        lines = str(error).splitlines() or [type(error).__name__]
        raise ModelError(f"model {spec.name!r} cannot be loaded: {lines[0][:300]}") from None
    return model, tokenizer


def _unit(features: torch.Tensor) -> Vectors:
    unit = torch.nn.functional.normalize(features.float(), dim=-1)
    array: Vectors = unit.cpu().numpy()
    return array
