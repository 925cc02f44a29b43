"""Measured constants of capacity planning, as the benchmarks wrote them: each file names its machine and its command.

`pipeline.json`: `python -m benchmarks.pipeline_simulation`. `qdrant.json`: `python -m benchmarks.qdrant_capacity`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def load(name: str) -> dict[str, Any]:
    """The document of a benchmark."""
    found: dict[str, Any] = json.loads((files(__name__) / f"{name}.json").read_text(encoding="utf-8"))
    return found


def machine(name: str) -> str:
    """Where and how a document was measured, in one line."""
    there = load(name)["machine"]
    return f"{there['cores']} cores of an {there['processor']}, `{there['command']}`"


@dataclass(frozen=True)
class Cost:
    """Seconds of a batch (or a call) whatever its size, and of each picture in it."""

    fixed_s: float
    per_picture_s: float = 0.0

    def of(self, pictures: float) -> float:
        """Seconds of so many."""
        return self.fixed_s + pictures * self.per_picture_s


def stage(name: str) -> Cost:
    """What a stage of the index pipeline costs."""
    return Cost(**load("pipeline")["times"][name])


@dataclass(frozen=True)
class PerVector:
    """What one vector costs a Qdrant server. Bytes beside the vector itself and its quantized copy; processor seconds.

    The bytes are what more points need more: what a server and a collection take whatever they hold is left out. Memory
    is the server's own and all files of the collection, once: it maps them twice, and the kernel counts both.
    """

    memory_bytes: float
    disk_bytes: float
    peak_disk_ratio: float
    """Most disk while it is loaded and indexed, as a multiple of what remains."""
    load_s: float
    hnsw_s: float
    """In a segment of `segment_vectors`."""
    query_s: float
    """For one query in one segment of `segment_vectors`."""
    segment_vectors: float


def per_vector() -> PerVector:
    """Of vectors that are not quantized, from the smallest and the largest collection that were measured."""
    rows = [row for row in load("qdrant")["collections"] if row["quantization"] == "none"]
    small, large = min(rows, key=_points), max(rows, key=_points)
    vector, disk = 4 * large["dim"], _slope(small, large, "disk_bytes_per_point")
    return PerVector(
        memory_bytes=_slope(small, large, "anonymous_bytes_per_point") + disk - vector,
        disk_bytes=disk - vector,
        peak_disk_ratio=large["peak_disk_bytes_per_point"] / large["disk_bytes_per_point"],
        load_s=large["load_processor_us_per_point"] / 1e6,
        hnsw_s=large["hnsw_processor_us_per_point"] / 1e6,
        query_s=large["query"]["processor_ms"] / 1e3 / large["segments"],
        segment_vectors=large["points"] / large["segments"],
    )


def _points(row: dict[str, Any]) -> int:
    return int(row["points"])


def _slope(small: dict[str, Any], large: dict[str, Any], name: str) -> float:
    """Bytes of one point more."""
    more = large[name] * large["points"] - small[name] * small["points"]
    return float(more / (large["points"] - small["points"]))
