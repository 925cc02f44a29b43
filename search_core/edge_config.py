"""How the shards of the embedded store are made: HNSW, and which payload fields have an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import qdrant_edge as edge

from search_core.points import INTEGER_FIELDS, KEYWORD_FIELDS

HNSW_M: Final = 16
HNSW_EF_CONSTRUCT: Final = 128
FULL_SCAN_KB: Final = 10_000
ALL_FIELDS: Final = (*KEYWORD_FIELDS, *INTEGER_FIELDS)
LOAD_FIELDS: Final = ("content_hash",)
"""What a load itself asks for. An index in a shard that is being filled is in memory, 500 to 1,000 bytes a point and
field; one that is made of an optimized shard is read from its file."""
MOST_LINKED: Final = 200_000
"""Points of a shard whose HNSW graph gets further links for filters: that needs the indexes in memory. Filtered
searches in larger ones take ACORN, about four times slower and as exact (60,000 points, filters of 2 to 25 %)."""


def shard_config(dim: int) -> edge.EdgeConfig:
    """A shard of vectors that are compared by cosine."""
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=dim, distance=edge.Distance.Cosine),
        hnsw_config=edge.HnswIndexConfig(HNSW_M, HNSW_EF_CONSTRUCT, FULL_SCAN_KB),
    )


def index_payload(shard: edge.EdgeShard, fields: Sequence[str] = ALL_FIELDS, *, links: bool = True) -> None:
    """Makes the payload indexes that are missing among those of `fields`; `links`: HNSW is to know of them."""
    there = shard.info().payload_schema
    for field in fields:
        if field not in there:
            kind = edge.IntegerIndexParams if field in INTEGER_FIELDS else edge.KeywordIndexParams
            schema = kind(memory=edge.Memory.Cold, enable_hnsw=links)
            shard.update(edge.UpdateOperation.create_field_index(field, schema))


def optimize(shard: edge.EdgeShard, *, links: bool) -> None:
    """Builds HNSW and what is missing of payload indexes; `links` for filters need those first."""
    if links:
        index_payload(shard)
    shard.optimize()
    index_payload(shard, links=False)
    shard.flush()


def is_linked(shard: edge.EdgeShard) -> bool:
    """Whether HNSW knows of the fields that searches filter by."""
    indexes = [there for name, there in shard.info().payload_schema.items() if name not in LOAD_FIELDS]
    return all(there.params is None or there.params.enable_hnsw is not False for there in indexes)
