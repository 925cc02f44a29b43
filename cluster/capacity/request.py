"""What is planned for."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.capacity.retrieval import Quantization


@dataclass(frozen=True)
class Request:
    """A corpus, a load and the machines to plan with. Either `gpus` or `hours` is None."""

    images: float
    dim: int = 512
    qps: float = 10.0
    gpu: str = "a10"
    images_per_s: float | None = None
    """Of one GPU, in place of what is assumed of it."""
    gpus: int | None = None
    hours: float | None = 24.0
    image_kb: float = 100.0
    quantization: Quantization = "none"
    replicas: int = 2
    vectors_on_disk: bool = False
    node_memory_gb: float = 128.0
    node_cores: int = 16
    daily_changes_percent: float = 0.0
