"""`image-search eval`: recall of the product's own query path over its own index."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cli.local_search import LocalSearch, local_search
from cli.stores import command_store
from search_core.addresses import host_and_path, split_inside
from search_core.errors import UsageError
from search_core.evaluation import Pair, rank_of_best, read_pairs, recall
from search_core.filters import AnyOf
from search_core.points import Vectors
from search_core.settings import Settings
from search_core.store import Store
from serve_app.messages import Encoded, TermVector, VectorQuery

PAGE = 1_000
TOP = 10


@dataclass(frozen=True)
class _Gallery:
    """The pictures that are ranked. `vectors` is float32 [n, dim]; `whole` if it is the whole collection."""

    ids: list[str]
    uris: list[str]
    vectors: Vectors
    whole: bool


def run(settings: Settings, file: Path, gallery: str) -> dict[str, Any]:
    """The contract's figures for the pairs in `file`.

    Raises:
        UsageError: the file is not as it should be, or names no picture of the collection.
    """
    pairs = read_pairs(file)

    async def run() -> dict[str, Any]:
        async with command_store(settings) as store:
            return await evaluate(await local_search(store, settings), store, pairs, gallery)

    return asyncio.run(run())


async def evaluate(search: LocalSearch, store: Store, pairs: Sequence[Pair], kind: str) -> dict[str, Any]:
    """The figures of `pairs` over the collection of `search`; `kind` is `named` or `all`.

    Raises:
        UsageError: the pairs name no picture of the collection.
    """
    gallery = await _read_gallery(store, search.collection, pairs, only_named=kind == "named")
    places = _places(gallery)
    found = [(places[pair.image], pair.captions) for pair in pairs if pair.image in places and pair.captions]
    if not found:
        raise UsageError("the collection has none of the images that the file names")
    texts = list(dict.fromkeys(caption.strip() for _, captions in found for caption in captions))
    encoded = dict(zip(texts, search.encoders.encode_texts(texts), strict=True))
    tops = {
        text: await _top(search, encoded[text], gallery)
        for text in tqdm(texts, unit=" queries", disable=None)
    }
    vectors = np.stack([encoded[text].vector for text in texts])
    return _figures(found, texts, tops, vectors, gallery)


def _figures(
    found: Sequence[tuple[int, Sequence[str]]],
    texts: Sequence[str],
    tops: dict[str, list[str]],
    vectors: Vectors,
    gallery: _Gallery,
) -> dict[str, Any]:
    scores = vectors @ gallery.vectors.T
    row = {text: index for index, text in enumerate(texts)}
    queries = [(row[caption.strip()], image) for image, captions in found for caption in captions]
    right = np.zeros((len(queries), len(gallery.ids)), dtype=bool)
    right[np.arange(len(queries)), [image for _, image in queries]] = True
    exact_ranks = rank_of_best(scores[[text for text, _ in queries]], right)
    store_ranks = [_rank_in(tops[texts[text]], gallery.ids[image]) for text, image in queries]

    image_rows = [image for image, _ in found]
    own = np.zeros((len(found), len(texts)), dtype=bool)
    for index, (_, captions) in enumerate(found):
        own[index, [row[caption.strip()] for caption in captions]] = True
    image_ranks = rank_of_best(scores.T[image_rows], own)

    best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    overlap = [
        len({gallery.ids[i] for i in best[index]} & set(tops[text])) / best.shape[1]
        for index, text in enumerate(texts)
    ]
    to_image = recall(store_ranks).to_dict()
    to_image["median_rank"] = float(np.median(exact_ranks))
    return {
        "text_to_image": to_image,
        "image_to_text": recall(image_ranks).to_dict(),
        "ann_recall_at_10": float(np.mean(overlap)),
        "images": len(found),
        "captions": len(queries),
    }


def _rank_in(ids: Sequence[str], id: str) -> int:
    """The rank of an id among the first that the store gave; beyond them it only counts as not found."""
    return ids.index(id) + 1 if id in ids else TOP + 1


async def _top(search: LocalSearch, encoded: Encoded, gallery: _Gallery) -> list[str]:
    """The ids that the server's retrieval gives first among the gallery."""
    query = VectorQuery(
        collection=search.collection,
        terms=(TermVector("text", "text", 1.0, encoded.vector),),
        fingerprint=encoded.fingerprint,
        where=() if gallery.whole else (AnyOf("uri", tuple(gallery.uris)),),
        limit=TOP,
    )
    return [hit.id for hit in (await search.retrieval.search(query)).hits]


async def _read_gallery(store: Store, name: str, pairs: Sequence[Pair], *, only_named: bool) -> _Gallery:
    wanted = {pair.image for pair in pairs}
    ids, uris, vectors = [], [], []
    after: str | None = None
    total = 0
    while True:
        points, after = await store.scroll(name, after=after, limit=PAGE, fields=("uri",), with_vectors=True)
        total += len(points)
        for point in points:
            uri = str(point.payload["uri"])
            if point.vector is not None and (not only_named or not wanted.isdisjoint(names_of(uri))):
                ids.append(point.id)
                uris.append(uri)
                vectors.append(point.vector)
        if after is None:
            break
    if not ids:
        raise UsageError("the collection has none of the images that the file names")
    return _Gallery(ids, uris, np.stack(vectors), len(ids) == total)


def _places(gallery: _Gallery) -> dict[str, int]:
    """Each name of each picture to its row of the gallery."""
    return {name: row for row, uri in enumerate(gallery.uris) for name in names_of(uri)}


def names_of(uri: str) -> list[str]:
    """What a file of pairs may call a picture: its URI, its file name, or the end of its path (in a tar or table)."""
    inside = split_inside(uri)
    path = inside[1] if inside is not None else host_and_path(uri)[1]
    parts = path.strip("/").split("/")
    return [uri, *("/".join(parts[start:]) for start in range(len(parts)))]


def to_text(result: dict[str, Any]) -> str:
    """The figures in a few lines."""
    lines = [f"{result['images']} images, {result['captions']} captions"]
    for key, title in (("text_to_image", "text to image"), ("image_to_text", "image to text")):
        one = result[key]
        shares = "  ".join(f"R@{k} {100 * one[f'recall_at_{k}']:.1f} %" for k in (1, 5, 10))
        lines.append(f"{title}: {shares}  median rank {one['median_rank']:g}")
    lines.append(f"ANN against exact: recall at 10 {100 * result['ann_recall_at_10']:.2f} %")
    return "\n".join(lines)
