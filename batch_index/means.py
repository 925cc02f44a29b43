"""The mean vectors of both modalities, which combined queries are centred on (see `search_core.compose`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_core.points import Vectors
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


def phrases(captions: Sequence[str]) -> tuple[str, ...]:
    """What the mean of texts is measured on: captions of the collection, or general phrases if they are few."""
    return tuple(captions) if len(captions) >= MIN_CAPTIONS else GENERAL_PHRASES


async def image_mean(store: Store, collection: str) -> Vectors:
    """float32 [dim], of a sample of the collection: its first points, whose ids are hashes and so in random order."""
    points, _ = await store.scroll(collection, limit=SAMPLE, fields=(), with_vectors=True)
    mean: Vectors = np.mean([point.vector for point in points if point.vector is not None], axis=0)
    return mean
