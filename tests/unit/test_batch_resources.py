"""Whether a run fits into the Ray at hand, by the resources of its nodes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from pydantic import ValidationError

from batch_index.resources import prepare_cpus, require_room
from search_core.errors import ResourceError
from search_core.settings import IndexSettings

Nodes = list[Mapping[str, float]]
NO_GPU: Nodes = [{"CPU": 2, "memory": 1e9}]
TWO_BY_TWO: Nodes = [{"CPU": 4, "GPU": 2}, {"CPU": 4, "GPU": 2}]


@pytest.mark.parametrize(
    ("encoders", "gpus", "nodes"),
    [
        (1, 0, [{"CPU": 1}]),
        (3, 0, NO_GPU),
        (4, 1, TWO_BY_TWO),
        (2, 2, TWO_BY_TWO),
        (8, 0.5, TWO_BY_TWO),
        (3, 1 / 3, [{"CPU": 2, "GPU": 1}]),
        (3, 0.33334, [{"CPU": 2, "GPU": 1}]),
    ],
)
def test_what_fits_is_let_through(encoders: int, gpus: float, nodes: Nodes) -> None:
    require_room(IndexSettings(encoders=encoders, gpus_per_encoder=gpus), nodes)


@pytest.mark.parametrize(
    ("encoders", "gpus", "nodes", "says"),
    [
        (1, 1, NO_GPU, "per_encoder 1 need 1 GPUs; Ray has 0 here, room for 0 encoders: lower"),
        (5, 1, TWO_BY_TWO, "per_encoder 1 need 5 GPUs; Ray has 4 here, room for 4 encoders: lower"),
        (2, 3, TWO_BY_TWO, "need 6 GPUs; Ray has 4 here, room for 0 encoders"),  # no node has three
        (3, 0.4, [{"CPU": 2, "GPU": 1}], "need 1.2 GPUs; Ray has 1 here, room for 2 encoders"),
        (3, 0.6, [{"CPU": 4, "GPU": 2}], "need 1.8 GPUs; Ray has 2 here, room for 2 encoders"),
        (4, 0.1, [{"CPU": 1, "GPU": 1}, {"CPU": 8}], "room for 2 encoders"),  # no CPU beside the GPU
        (
            4,
            0,
            NO_GPU,
            "index.encoders 4 need 2.25 CPUs with the task .* Ray has 2 here: lower index.encoders",
        ),
        (2, 0.5, [{"CPU": 1, "GPU": 1}], "index.encoders 2 need 1.125 CPUs"),
    ],
)
def test_what_would_wait_for_ever_is_refused(encoders: int, gpus: float, nodes: Nodes, says: str) -> None:
    with pytest.raises(ResourceError, match=says):
        require_room(IndexSettings(encoders=encoders, gpus_per_encoder=gpus), nodes)


def test_a_reading_task_takes_a_share_of_a_small_machine_and_a_core_of_a_large_one() -> None:
    assert [prepare_cpus(cpus) for cpus in (1, 2, 8, 64)] == [0.125, 0.25, 1, 1]


def test_a_gpu_and_a_half_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"gpus_per_encoder 1\.5: give a share of one GPU, or whole"):
        IndexSettings(gpus_per_encoder=1.5)
