"""The model that comes with the project: it is there, takes the path of every other, and knows the samples."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from search_core.encoder import Encoder, load_encoder
from search_core.evaluation import rank_of_best, recall
from search_core.image import decode_rgb
from search_core.model import BUILTIN_PATH, resolve_model
from search_core.preprocess import pixels_of
from search_core.settings import ImageSettings, ModelSettings

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
LIMITS = ImageSettings()


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(resolve_model("builtin"), ModelSettings(precision="fp32", device="cpu"))


@pytest.fixture(scope="module")
def lines() -> list[dict]:
    """Every fourth sample."""
    return [
        json.loads(line) for line in (SAMPLES / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    ][::4]


@pytest.fixture(scope="module")
def files(lines: list[dict]) -> list[bytes]:
    return [(SAMPLES / line["image"]).read_bytes() for line in lines]


def test_it_is_small_and_complete():
    assert (BUILTIN_PATH / "open_clip_model.safetensors").stat().st_size < 45_000_000
    spec = resolve_model("builtin")
    assert spec.weights_id.startswith("sha256:")
    assert resolve_model(f"local-dir:{BUILTIN_PATH}").fingerprint == spec.fingerprint


def test_its_vectors_are_those_of_open_clip(encoder, files, lines):
    name = f"local-dir:{BUILTIN_PATH}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    model.float().eval()
    some = files[:6]
    theirs = torch.stack([transform(decode_rgb(data, LIMITS).rgb) for data in some])
    ours = np.stack([pixels_of(data, encoder.spec.preprocess, LIMITS) for data in some])
    texts = [line["captions"][0] for line in lines[:6]]
    with torch.inference_mode():
        images = torch.nn.functional.normalize(model.encode_image(theirs).float(), dim=-1).numpy()
        words = torch.nn.functional.normalize(
            model.encode_text(open_clip.get_tokenizer(name)(texts)).float(), dim=-1
        ).numpy()
    assert (encoder.encode_pixels(ours) * images).sum(axis=1).min() >= 0.9999
    assert (encoder.encode_texts(texts) * words).sum(axis=1).min() >= 0.9999
    assert Image.open(io.BytesIO(some[0])).size != (224, 224)


def test_it_finds_the_samples_by_their_names(encoder, files, lines):
    pixels = np.stack([pixels_of(data, encoder.spec.preprocess, LIMITS) for data in files])
    images = np.concatenate(
        [encoder.encode_pixels(pixels[start : start + 32]) for start in range(0, len(pixels), 32)]
    )
    named = [row for row, line in enumerate(lines) if line["name"]]
    texts = encoder.encode_texts([f"a photo of a {lines[row]['name']}" for row in named])
    right = np.array([[lines[row]["name"] == line["name"] for line in lines] for row in named])
    figures = recall(rank_of_best(texts @ images.T, right))
    assert figures.recall_at_10 >= 0.5, figures
