"""The Qdrant servers of a plan: memory, disk, nodes, replicas, and what building and searching the index costs.

A query is asked of every segment of every shard, so more shards make it no cheaper; more replicas share the queries. A
segment's search and a vector's place in its graph cost as the logarithm of the segment's size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from cluster.capacity import measured

Quantization = Literal["none", "int8", "binary", "product"]
KINDS: tuple[Quantization, ...] = get_args(Quantization)
QUANTIZED_BYTES: dict[Quantization, float] = {"none": 0, "int8": 1, "binary": 1 / 8, "product": 1 / 4}
"""Of each number of a vector, beside the vector itself: `store.qdrant.quantization`."""
FLOAT_BYTES = 4
RULE_OF_THUMB = 1.5
"""Qdrant's own: vectors x dimensions x 4 bytes x 1.5 (https://qdrant.tech/documentation/guides/capacity-planning)."""
MEMORY_USE = 0.8
"""Share of a node's memory that is planned for; optimizing needs the rest."""
CORE_USE = 0.6
"""Share of the cores that searches may take on average."""
SEGMENT_BYTES_PER_CORE = 256_000 * 1024
"""Qdrant 1.16's DEFAULT_MAX_SEGMENT_PER_CPU_KB: most bytes of vectors in a segment, for each indexing core."""
INDEXING_CORES = 16
FEWEST_SEGMENTS, MOST_DEFAULT_SEGMENTS = 2, 8
"""Of a shard: Qdrant takes as many as it has cores, between these, where the vectors do not need more."""


@dataclass(frozen=True)
class Retrieval:
    """Sizes are of all nodes and replicas together, but for those that say otherwise."""

    shards: int
    replicas: int
    nodes: int
    memory_gb: float
    memory_gb_per_node: float
    rule_of_thumb_gb: float
    disk_gb: float
    peak_disk_gb_per_node: float
    memory_bytes_per_vector: float
    disk_bytes_per_vector: float
    vectors_per_node: float
    segments_per_query: int
    core_ms_per_query: float
    max_qps: float
    load_points_per_s: float
    hnsw_hours: float


def retrieval(
    images: float,
    dim: int,
    qps: float,
    *,
    quantization: Quantization,
    replicas: int,
    vectors_on_disk: bool,
    node_memory_gb: float,
    node_cores: int,
) -> Retrieval:
    """Shards so that one copy fits into memory, then as many copies as the queries need, at least `replicas`."""
    cost = measured.per_vector()
    full, quantized = dim * FLOAT_BYTES, dim * QUANTIZED_BYTES[quantization]
    memory = (0 if vectors_on_disk else full) + quantized + cost.memory_bytes
    disk = full + quantized + cost.disk_bytes
    shards = max(1, math.ceil(images * memory / (node_memory_gb * 1e9 * MEMORY_USE)))
    per_segment = SEGMENT_BYTES_PER_CORE * min(node_cores, INDEXING_CORES) / full
    usual = min(MOST_DEFAULT_SEGMENTS, max(FEWEST_SEGMENTS, node_cores))
    segments = max(usual, math.ceil(images / shards / per_segment))
    size = images / shards / segments
    growth = max(1.0, math.log(max(size, math.e)) / math.log(cost.segment_vectors))
    query_s = shards * segments * cost.query_s * growth
    copy_qps = shards * node_cores * CORE_USE / query_s
    copies = max(replicas, math.ceil(qps / copy_qps))
    nodes = shards * copies
    return Retrieval(
        shards=shards,
        replicas=copies,
        nodes=nodes,
        memory_gb=images * copies * memory / 1e9,
        memory_gb_per_node=images * memory / shards / 1e9,
        rule_of_thumb_gb=images * copies * full * RULE_OF_THUMB / 1e9,
        disk_gb=images * copies * disk / 1e9,
        peak_disk_gb_per_node=images * disk * cost.peak_disk_ratio / shards / 1e9,
        memory_bytes_per_vector=memory,
        disk_bytes_per_vector=disk,
        vectors_per_node=images / shards,
        segments_per_query=shards * segments,
        core_ms_per_query=1000 * query_s,
        max_qps=copies * copy_qps,
        load_points_per_s=shards * node_cores / cost.load_s,
        hnsw_hours=images / shards * cost.hnsw_s * growth / node_cores / 3600,
    )
