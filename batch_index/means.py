"""The mean vectors of both modalities, which combined queries are centred on (see `search_core.compose`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import ray

from search_core.encoder import load_encoder
from search_core.model import ModelSpec
from search_core.points import Vectors
from search_core.settings import ModelSettings
from search_core.store import Store

SAMPLE = 2_000
MIN_CAPTIONS = 100
GENERAL_PHRASES = tuple(
    f"{frame} {thing}"
    for frame in ("a photo of", "a picture with", "two of the", "somebody next to")
    for thing in (
        "a dog", "a child playing", "a red car", "a city street", "a mountain lake", "food on a plate", "a group of people",
        "a bird in a tree", "a boat on the sea", "flowers in a garden", "a man in a blue shirt", "a house", "a horse",
        "a table with books", "a woman smiling", "snow and ice", "a football match", "an old building", "a cat", "the sky",
        "a musical instrument", "a bicycle", "a piece of fruit", "a tool", "a train", "a beach", "a kitchen", "an insect",
    )
)  # fmt: skip


async def measure_means(
    store: Store, collection: str, spec: ModelSpec, settings: ModelSettings
) -> dict[str, list[float]]:
    """`{"text": [...], "image": [...]}`, each of `dim` floats, from a sample of the collection.

    Pictures are taken in order of their ids, which are hashes and so as good as random; texts are the sample's
    captions, or general phrases where there are too few.
    """
    points, _ = await store.scroll(collection, limit=SAMPLE, with_vectors=True)
    images = np.stack([point.vector for point in points if point.vector is not None])
    captions = [str(point.payload["caption"]) for point in points if point.payload.get("caption")]
    texts = captions if len(captions) >= MIN_CAPTIONS else list(GENERAL_PHRASES)
    encode = ray.remote(num_cpus=0.1)(_mean_of_texts)
    text_mean: Vectors = await encode.remote(spec, settings, texts)
    return {"text": text_mean.tolist(), "image": images.mean(axis=0).tolist()}


def _mean_of_texts(spec: ModelSpec, settings: ModelSettings, texts: Sequence[str]) -> Vectors:
    encoder = load_encoder(spec, settings)
    parts = [encoder.encode_texts(texts[start : start + 64]) for start in range(0, len(texts), 64)]
    mean: Vectors = np.concatenate(parts).mean(axis=0)
    return mean
