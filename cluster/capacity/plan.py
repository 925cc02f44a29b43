"""What a corpus and a load need: a plan worked out from measured constants, with its assumptions and its warnings.

Pure arithmetic. `cluster.capacity.ingest` and `cluster.capacity.retrieval` have the formulas, `cluster.capacity.measured` and `cluster.capacity.gpus` the
constants and where each is from, `cluster.capacity.remarks` says what a plan takes for granted and what speaks against it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.capacity.gpus import CPU, PACES, Pace
from cluster.capacity.ingest import GPU_BUSY, Ingest, ingest
from cluster.capacity.remarks import assumptions, warnings
from cluster.capacity.request import Request
from cluster.capacity.retrieval import Retrieval, retrieval


@dataclass(frozen=True)
class Daily:
    """What a day's changes take."""

    images: float
    gpu_hours: float
    listing_hours: float


@dataclass(frozen=True)
class Plan:
    """The answer."""

    request: Request
    ingest: Ingest
    retrieval: Retrieval
    total_hours: float
    """Listing, embedding and building HNSW, one after the other."""
    daily: Daily | None
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]


def make_plan(request: Request) -> Plan:
    """Works it out."""
    pace = _pace(request)
    index = ingest(
        request.images,
        pace.images_per_s,
        request.image_kb,
        gpus=request.gpus,
        hours=request.hours,
        on_cpu=request.gpu == CPU,
    )
    search = retrieval(
        request.images,
        request.dim,
        request.qps,
        quantization=request.quantization,
        replicas=request.replicas,
        vectors_on_disk=request.vectors_on_disk,
        node_memory_gb=request.node_memory_gb,
        node_cores=request.node_cores,
    )
    daily = None
    if request.daily_changes_percent:
        changed = request.images * request.daily_changes_percent / 100
        seconds = changed / (pace.images_per_s * GPU_BUSY)
        daily = Daily(changed, seconds / 3600, index.plan_hours)
    return Plan(
        request=request,
        ingest=index,
        retrieval=search,
        total_hours=index.plan_hours + index.hours + search.hnsw_hours,
        daily=daily,
        assumptions=tuple(assumptions(request, pace, search)),
        warnings=tuple(warnings(request, index, search)),
    )


def _pace(request: Request) -> Pace:
    if request.images_per_s is not None:
        return Pace(request.images_per_s, "as given")
    return PACES[request.gpu]
