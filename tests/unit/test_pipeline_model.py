"""The model of the index pipeline: with the recorded times of the stages and the recommended settings, 1 to 64 GPUs are
busy; with too little of one thing they are not, and the model says what it is.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.pipeline_model import FULL, Run, simulate
from benchmarks.pipeline_runs import default, recommended
from benchmarks.stage_times import StageTimes
from cluster.capacity.measured import Cost, load

PACE = 200.0
"""Pictures a second of a GPU, as ViT-L/14 would have it on an A10."""
NOTHING = Cost(0.0)
PLAIN = StageTimes(
    prepare=Cost(0.0, 0.01),
    spread=0.0,
    pack=NOTHING,
    host=NOTHING,
    write_client=NOTHING,
    write_server=NOTHING,
    shard=NOTHING,
    claim=NOTHING,
    count=NOTHING,
    acknowledge=NOTHING,
    round_trip_s=0.0,
    driver_batch=NOTHING,
    driver_shard=NOTHING,
    plan=NOTHING,
)
"""Only preparing takes time: 100 pictures a second of a core."""
RUN = Run(
    gpus=2,
    images_per_s=100.0,
    encoders_per_gpu=1,
    preparers=3,
    batch_size=50,
    shard_rows=500,
    max_in_flight=100_000,
    max_tasks_in_flight=2,
    qdrant_cores=1,
)


@pytest.fixture(scope="module")
def recorded() -> StageTimes:
    return StageTimes.from_dict(load("pipeline")["times"])


@pytest.mark.parametrize("gpus", [1, 2, 4, 8, 16, 32, 64])
def test_recommended_settings_keep_gpus_busy(recorded: StageTimes, gpus: int) -> None:
    assert simulate(recommended(gpus, PACE), recorded).busy >= FULL


def test_default_settings_do_not_keep_64_gpus_busy(recorded: StageTimes) -> None:
    outcome = simulate(default(64, PACE), recorded)
    assert outcome.busy < FULL
    assert outcome.bottleneck == "driver"


def test_one_coordinator_does_not_feed_256_gpus(recorded: StageTimes) -> None:
    outcome = simulate(recommended(256, PACE), recorded)
    assert outcome.busy < FULL
    assert outcome.bottleneck == "coordinator"


def test_the_same_run_has_the_same_outcome(recorded: StageTimes) -> None:
    assert simulate(default(2, PACE), recorded) == simulate(default(2, PACE), recorded)


def test_gpus_do_what_they_can_where_nothing_holds_them_up() -> None:
    outcome = simulate(RUN, PLAIN)
    assert outcome.busy == pytest.approx(1.0, abs=0.01)
    assert outcome.images_per_s == pytest.approx(200, rel=0.02)
    assert outcome.bottleneck == "GPUs"


@pytest.mark.parametrize(
    ("changes", "times", "images_per_s", "bottleneck"),
    [
        ({"preparers": 1}, {}, 100, "preparers"),
        ({"max_in_flight": 500}, {}, 90, "max_in_flight"),
        ({}, {"claim": Cost(0.5)}, 100, "coordinator"),
        ({}, {"driver_batch": Cost(0.5)}, 100, "driver"),
        ({}, {"write_server": Cost(0.5)}, 100, "Qdrant"),
        ({}, {"host": Cost(0.5)}, 100, "encoders"),
        ({"encoders_per_gpu": 2}, {"host": Cost(0.5)}, 200, "GPUs"),
    ],
)
def test_what_holds_up_is_named(changes, times, images_per_s, bottleneck) -> None:
    outcome = simulate(replace(RUN, **changes), replace(PLAIN, **times))
    assert outcome.bottleneck == bottleneck
    assert outcome.images_per_s == pytest.approx(images_per_s, rel=0.05)
