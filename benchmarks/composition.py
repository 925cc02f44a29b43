"""Does centring help combined queries? Caption and a cropped corner of the same picture, ranked over a gallery.

`python -m benchmarks.composition PAIRS IMAGES [--model MODEL]`: PAIRS is JSON lines `{"image", "captions"}`. Each
query is a picture's first caption together with its upper left quarter; the right answer is the whole picture.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import describe
from search_core.compose import Means, Modality, WeightedVector, compose
from search_core.encoder import Encoder, load_encoder
from search_core.evaluation import rank_of_best, read_pairs, recall
from search_core.model import resolve_model
from search_core.points import Vectors
from search_core.preprocess import pixels_of
from search_core.settings import Settings, load_settings

BATCH = 32
WEIGHTS = (0.25, 0.5, 0.75)


def quarter(data: bytes) -> bytes:
    """The upper left quarter of a picture, as PNG."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    out = io.BytesIO()
    image.crop((0, 0, image.width // 2, image.height // 2)).save(out, "PNG")
    return out.getvalue()


def embed_pictures(encoder: Encoder, pictures: list[bytes], settings: Settings) -> Vectors:
    """float32 [n, dim], L2 norm 1."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        some = pictures[start : start + BATCH]
        pixels = np.stack([pixels_of(one, encoder.spec.preprocess, settings.image) for one in some])
        parts.append(encoder.encode_pixels(pixels))
    return np.concatenate(parts)


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", default="builtin")
    arguments = parser.parse_args()
    settings = load_settings()
    encoder = load_encoder(resolve_model(arguments.model), settings.model)
    pairs = read_pairs(arguments.pairs)
    files = [(arguments.images / pair.image).read_bytes() for pair in pairs]
    gallery = embed_pictures(encoder, files, settings)
    corners = embed_pictures(encoder, [quarter(data) for data in files], settings)
    texts = np.concatenate([encoder.encode_texts([pair.captions[0]]) for pair in pairs])
    own = np.eye(len(pairs), dtype=bool)
    means = Means(text=texts.mean(axis=0), image=gallery.mean(axis=0))

    def figures(queries: Vectors) -> dict[str, float]:
        return recall(rank_of_best(queries @ gallery.T, own)).to_dict()

    def combined(weight: float, centre: Means | None) -> Vectors:
        pairs_of_terms = [
            [_term(text, "text", 1 - weight), _term(corner, "image", weight)]
            for text, corner in zip(texts, corners, strict=True)
        ]
        return np.stack([compose(terms, centre) for terms in pairs_of_terms])

    result = {
        "text alone": figures(texts),
        "corner alone": figures(corners),
        "combined": {
            f"image weight {weight}": {
                "plain sum": figures(combined(weight, None)),
                "centred": figures(combined(weight, means)),
            }
            for weight in WEIGHTS
        },
        "machine": describe(),
    }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


def _term(vector: Vectors, modality: Modality, weight: float) -> WeightedVector:
    return WeightedVector(vector, modality, weight)


if __name__ == "__main__":
    main()
