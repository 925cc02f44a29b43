"""What a run claims of Ray, and whether Ray can ever give it: for what does not fit, Ray would wait for ever."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from search_core.errors import ResourceError
from search_core.settings import IndexSettings

ENCODER_CPUS = 0.5
MAX_PREPARE_CPUS = 1.0
ROUNDING = 1e-3
"""Ray counts in ten-thousandths: three actors of 0.33334 GPUs share one."""


def prepare_cpus(cpus: float) -> float:
    """CPUs that one task claims that reads and decodes, of so many in all. It never claims a GPU."""
    return min(MAX_PREPARE_CPUS, cpus / 8)


def require_room(index: IndexSettings, nodes: Sequence[Mapping[str, float]]) -> None:
    """Finds out whether nodes with these resources have room for all encoders and a task that feeds them.

    Raises:
        ResourceError: they have not, even when nothing else runs there.
    """
    gpus, cpus = (sum(node.get(kind, 0.0) for node in nodes) for kind in ("GPU", "CPU"))
    if index.gpus_per_encoder:
        places = sum(_places(node, index.gpus_per_encoder) for node in nodes)
        if places < index.encoders:
            raise ResourceError(
                f"index.encoders {index.encoders} with index.gpus_per_encoder {index.gpus_per_encoder:g} need "
                f"{index.encoders * index.gpus_per_encoder:g} GPUs; Ray has {gpus:g} here, room for {places} "
                "encoders: lower one of them"
            )
    needed = index.encoders * ENCODER_CPUS + prepare_cpus(cpus)
    if needed > cpus:
        raise ResourceError(
            f"index.encoders {index.encoders} need {needed:g} CPUs with the task that reads for them; "
            f"Ray has {cpus:g} here: lower index.encoders, or raise index.cpus"
        )


def _places(node: Mapping[str, float], gpus_per_encoder: float) -> int:
    """How many encoders fit on a node."""
    by_cpu = node.get("CPU", 0.0) / ENCODER_CPUS
    gpus = node.get("GPU", 0.0)
    if gpus_per_encoder >= 1:
        by_gpu = gpus / gpus_per_encoder
    else:  # a share is of one GPU: what is left over on two does not add up
        by_gpu = math.floor(gpus + ROUNDING) * math.floor(1 / gpus_per_encoder + ROUNDING)
    return math.floor(min(by_gpu, by_cpu) + ROUNDING)
