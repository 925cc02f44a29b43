"""Points that reuse a vector: moved files, copies of known bytes, and changed descriptions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from batch_index.plan import Copy, batched
from search_core.payload import image_payload
from search_core.points import Batch, Payload, Point, point_id
from search_core.store import Store

COPY_BATCH = 256


@dataclass
class Copied:
    """What `write_copies` did: the files that are written, and those whose origin is not there (any more)."""

    written: list[Copy] = field(default_factory=list)
    missing: list[Copy] = field(default_factory=list)


async def write_copies(store: Store, collection: str, copies: Iterable[Copy]) -> Copied:
    """Writes each copy with its origin's vector.

    The point of a moved file is deleted before the new one is written: an interruption in between costs one
    embedding and leaves no stale point.
    """
    result = Copied()
    origins = await _origins(store, collection, list(copies), result)
    for group in batched(origins, COPY_BATCH):
        moved = [copy.origin for copy, _ in group if copy.action == "moved"]
        await store.delete(collection, moved)
        batch = Batch(
            ids=[point_id(copy.file.uri) for copy, _ in group],
            vectors=np.stack([point.vector for _, point in group if point.vector is not None]),
            payloads=[_payload(copy, point.payload) for copy, point in group],
        )
        await store.upsert(collection, batch)
        result.written += [copy for copy, _ in group]
    return result


async def _origins(
    store: Store, collection: str, copies: Sequence[Copy], result: Copied
) -> list[tuple[Copy, Point]]:
    """Reads all vectors before anything is written, since files may have exchanged their contents."""
    pairs: list[tuple[Copy, Point]] = []
    for group in batched(copies, COPY_BATCH):
        ids = list(dict.fromkeys(copy.origin for copy in group))
        found = {point.id: point for point in await store.retrieve(collection, ids, with_vectors=True)}
        for copy in group:
            point = found.get(copy.origin)
            if (
                point is None
                or point.vector is None
                or point.payload.get("content_hash") != copy.content_hash
            ):
                result.missing.append(copy)
            else:
                pairs.append((copy, point))
    return pairs


def _payload(copy: Copy, origin: Payload) -> Payload:
    return image_payload(
        copy.file.uri,
        width=origin["width"],
        height=origin["height"],
        format=origin["format"],
        size_bytes=copy.file.size or origin["bytes"],
        content_hash=copy.content_hash,
        source_version=copy.file.version,
        modified=copy.file.modified,
        captions=copy.description.captions,
        extra=copy.description.columns,
    )
