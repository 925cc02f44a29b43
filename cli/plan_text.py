"""A plan of `image-search plan` in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap

from cluster.capacity.gpus import CPU
from cluster.capacity.plan import Plan
from cluster.capacity.remarks import gigabytes

WIDTH = 100
NAMES = 26
"""Columns of the names of figures."""
DAY_H = 24


def to_text(plan: Plan) -> str:
    """The answer, the settings, what it stands on and what speaks against it."""
    asked, index = plan.request, plan.ingest
    load = f"{asked.qps:,g} queries/s"
    lines = [f"{_count(asked.images)} images, {asked.dim} numbers each, {load}", ""]
    lines += _table("Index run", _index_rows(plan))
    lines += _table("Qdrant", _qdrant_rows(plan))
    if plan.daily is not None:
        rows = [
            ("changed images", _count(plan.daily.images)),
            ("GPU hours", f"{plan.daily.gpu_hours:,.2f}"),
            ("listing", _time(plan.daily.listing_hours)),
        ]
        lines += _table("Each day", rows)
    advice = index.advice
    lines += [
        f"Settings{' of each run' if index.runs > 1 else ''}",
        (
            f"  index: {{encoders: {advice.encoders}, gpus_per_encoder: {advice.gpus_per_encoder:g}, "
            f"preparers: {advice.preparers}, batch_size: {advice.batch_size},"
        ),
        f"          max_in_flight: {advice.max_in_flight}, max_tasks_in_flight: {advice.max_tasks_in_flight}}}",
        (
            f"  store: {{qdrant: {{shards: {plan.retrieval.shards}, replicas: {plan.retrieval.replicas}, "
            f"quantization: {asked.quantization}, vectors_on_disk: {str(asked.vectors_on_disk).lower()}}}}}"
        ),
        "",
    ]
    lines += _list("Assumptions", plan.assumptions)
    if plan.warnings:
        lines += ["", *_list("Warnings", plan.warnings)]
    return "\n".join(lines)


def _index_rows(plan: Plan) -> Iterator[tuple[str, str]]:
    index, asked = plan.ingest, plan.request
    yield ("pairs of cores" if asked.gpu == CPU else "GPUs", f"{index.gpus:,} ({asked.gpu})")
    yield "embedding", f"{_time(index.hours)}, {index.images_per_s:,.0f} images/s"
    yield "runs side by side", f"{index.runs:,}, of at most {index.run_limit_images_per_s:,.0f} images/s each"
    yield "cores that decode", f"{index.decode_cores:,}"
    yield "read from the source", f"{index.read_mb_per_s:,.0f} MB/s ({asked.image_kb:g} kB an image)"
    yield "pixels to the encoders", f"{index.pixels_mb_per_s:,.0f} MB/s"
    yield "listing before it", _time(index.plan_hours)
    yield "HNSW after it", _time(plan.retrieval.hnsw_hours)
    yield "in all", _time(plan.total_hours)


def _qdrant_rows(plan: Plan) -> Iterator[tuple[str, str]]:
    search = plan.retrieval
    yield "nodes", f"{search.nodes:,} = {_some(search.shards, 'shard')} x {_some(search.replicas, 'replica')}"
    yield "memory", f"{gigabytes(search.memory_gb)}, {gigabytes(search.memory_gb_per_node)} a node"
    yield (
        "disk",
        f"{gigabytes(search.disk_gb)}; a node up to {gigabytes(search.peak_disk_gb_per_node)} while it builds",
    )
    yield (
        "a vector",
        f"{search.memory_bytes_per_vector:,.0f} bytes of memory, {search.disk_bytes_per_vector:,.0f} of disk",
    )
    yield (
        "a query",
        f"{search.core_ms_per_query:,.1f} core-ms in {search.segments_per_query:,} segments",
    )
    yield "queries at most", f"{search.max_qps:,.0f}/s"


def _table(title: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    return [title, *(f"  {name:{NAMES}}{value}" for name, value in rows), ""]


def _list(title: str, remarks: Iterable[str]) -> list[str]:
    lines = [title]
    for remark in remarks:
        lines += wrap(remark, WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
    return lines


def _some(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _count(images: float) -> str:
    for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if images >= size:
            return f"{images / size:,g} {name}"
    return f"{images:,g}"


def _time(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:,.0f} s"
    if hours < 1:
        return f"{hours * 60:,.0f} min"
    return f"{hours:,.1f} h" if hours < 4 * DAY_H else f"{hours / DAY_H:,.0f} days"
