"""What a plan takes for granted, and what speaks against it, in words."""

from __future__ import annotations

import math

from cluster.capacity import measured
from cluster.capacity.gpus import CPU, Pace
from cluster.capacity.ingest import CALLS_A_BATCH, ENCODERS_PER_GPU, GPU_BUSY, PROCESS_LOAD, SPARE, Ingest
from cluster.capacity.request import Request
from cluster.capacity.retrieval import CORE_USE, MEMORY_USE, RULE_OF_THUMB, Retrieval

MEASURED_NODES = 3
"""Most Qdrant nodes that this project has run together."""
VECTORS_PER_NODE = 100e6
"""Up to which Qdrant advises one node rather than more (github.com/qdrant/skills, horizontal scaling)."""
LISTED_PER_S = 10_000
"""Objects that one listing of a bucket names a second: assumed, 1000 an answer and 0.1 s for each."""
DAY_HOURS = 24
LONG_HOURS = 24
"""Longer preparations get a warning."""
MANY_SEGMENTS = 10_000
TERABYTES_FROM = 10_000
ONE_COLLECTION = 10e9
"""Pictures beyond which one collection and one plan are no design any more."""


def gigabytes(size: float) -> str:
    """A size in words."""
    if size < 1:
        return f"{size * 1000:,.0f} MB"
    return f"{size:,.0f} GB" if size < TERABYTES_FROM else f"{size / 1000:,.0f} TB"


def assumptions(request: Request, pace: Pace, search: Retrieval) -> list[str]:
    """What the figures stand on: what was measured, where, and what is taken from elsewhere or assumed."""
    cost = measured.per_vector()
    prepare = measured.stage("prepare")
    return [
        f"{request.gpu}: {pace.images_per_s:,.0f} images/s; {pace.source}",
        (
            f"they are busy {GPU_BUSY:.0%} of the time{'' if request.gpu == CPU else f', with {ENCODERS_PER_GPU} encoders each'}: "
            "simulated for GPUs, on measured times of the stages beside them (docs/capacity.md)"
        ),
        (
            f"a core reads, decodes and hands over {1 / (prepare.per_picture_s + measured.stage('pack').per_picture_s):,.0f} "
            f"pictures of 500x375 a second, {SPARE - 1:.0%} spare: measured, {measured.machine('pipeline')}"
        ),
        (
            f"driver and coordinator of one run are busy {PROCESS_LOAD:.0%} at most: measured there too, "
            f"{CALLS_A_BATCH + 2} calls a batch"
        ),
        (
            f"beside {request.dim} numbers a vector takes {cost.memory_bytes:,.0f} bytes of memory and {cost.disk_bytes:,.0f} "
            f"of disk (HNSW m=16, payload of an index run with its indexes, all files in memory): measured, {measured.machine('qdrant')}"
        ),
        (
            f"a query takes {1000 * cost.query_s:.2f} core-ms in a segment of {cost.segment_vectors:,.0f} vectors (ef 256, 24 "
            f"hits), a vector {1000 * cost.hnsw_s:.2f} core-ms to be put into HNSW, and both grow as the logarithm of the "
            "segment: measured there, the growth is assumed"
        ),
        (
            f"nodes have {request.node_memory_gb:g} GB, {MEMORY_USE:.0%} of them planned for, and {request.node_cores} cores, "
            f"{CORE_USE:.0%} of them for searches; Qdrant's own rule (vectors x dim x 4 x {RULE_OF_THUMB}) would be "
            f"{gigabytes(search.rule_of_thumb_gb)} in all"
        ),
    ]


def warnings(request: Request, index: Ingest, search: Retrieval) -> list[str]:
    """Where the plan leaves what is known, or what this project can do."""
    found = []
    if request.images > ONE_COLLECTION:
        found.append(
            f"one collection and one plan are no design for this: cut the corpus into about "
            f"{math.ceil(request.images / ONE_COLLECTION)} parts, each with a plan, a run and a collection of its own, and "
            "ask them all; this project has no such federation"
        )
    if index.runs > 1:
        found.append(
            f"one run does {index.run_limit_images_per_s:,.0f} images/s (its driver and coordinator are one process each): "
            f"it takes {index.runs} runs side by side, over parts of the corpus and into collections of their own, or "
            "fewer GPUs for longer"
        )
    listing = request.images / LISTED_PER_S / 3600
    if listing + index.plan_hours > LONG_HOURS:
        found.append(
            f"one process lists and plans all pictures first: {index.plan_hours:,.0f} h from tables, and about "
            f"{listing:,.0f} h more where each is an object of a bucket (assumed: {LISTED_PER_S:,} a second); pack them "
            "into tars or Parquet files"
        )
    if request.daily_changes_percent and index.plan_hours > DAY_HOURS:
        found.append("listing the corpus for each day's changes takes longer than a day")
    if request.vectors_on_disk and request.quantization == "none":
        found.append("vectors on disk without quantization: each query reads hundreds of them from disk")
    if request.quantization != "none":
        found.append(
            "quantized vectors were not measured: their memory is arithmetic, a query's cost is that of full ones, and "
            "recall is not known; measure it on your pictures (`publish.min_ann_recall`)"
        )
    if search.vectors_per_node > VECTORS_PER_NODE:
        found.append(
            f"{search.vectors_per_node / 1e6:,.0f} million vectors a node: Qdrant advises 100 at most"
        )
    if search.nodes > MEASURED_NODES:
        found.append(
            f"{search.nodes:,} Qdrant nodes: this project has run {MEASURED_NODES} together; beyond, it is arithmetic"
        )
    if search.segments_per_query > MANY_SEGMENTS:
        found.append(
            f"each query searches {search.segments_per_query:,} segments on {search.shards:,} shards and waits for the "
            "slowest: latency is not planned here, and will not be milliseconds"
        )
    if index.images_per_s > search.load_points_per_s:
        found.append(
            f"Qdrant's nodes take {search.load_points_per_s:,.0f} points/s, fewer than the GPUs give: more cores, or "
            "fewer GPUs for longer"
        )
    return found
