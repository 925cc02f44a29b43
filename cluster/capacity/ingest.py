"""The index run of a plan: GPUs, hours, cores beside the GPUs, and the settings that keep them busy.

One run has one driver and one coordinator; what these cost a picture is the most that a run can do, whatever its GPUs.
Larger batches cost them less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cluster.capacity import measured

GPU_BUSY = 0.95
"""Share of the time, which the simulation shows to be reached with these settings."""
ENCODERS_PER_GPU = 2
"""While one puts pixels together and asks the coordinator, the other computes."""
SPARE = 1.15
"""More cores than decoding needs on average."""
PROCESS_LOAD = 0.75
"""How busy the driver and the coordinator may be: from there on others wait for them."""
CALLS_A_BATCH = 3
"""Of the coordinator, to count."""
BATCH_SIZES = (64, 128, 256, 512, 1024)
"""A batch of 1024 pictures of 224x224 is 154 MB in Ray's object store."""
EASY_LOAD = 0.4
"""The smallest batch is taken with which driver and coordinator are no busier than this."""
SHARD_ROWS, MAX_SHARD_ROWS, MANY_SHARDS, SHARDS_IN_FLIGHT = 256, 4096, 20_000, 4
"""As in `batch_index.plan_file`, which this package may not import."""
MIN_IN_FLIGHT = 4096
PIXEL_BYTES = 3 * 224 * 224


@dataclass(frozen=True)
class IndexAdvice:
    """What the settings of the same names (`index.`, `store.qdrant.`) should be."""

    encoders: int
    gpus_per_encoder: float
    preparers: int
    batch_size: int
    max_in_flight: int
    max_tasks_in_flight: int
    shard_rows: int
    """No setting: what the plan will cut."""


@dataclass(frozen=True)
class Ingest:
    """Runs, machines and hours; `runs` is how many it takes side by side, each over a part of the corpus."""

    gpus: int
    hours: float
    images_per_s: float
    runs: int
    run_limit_images_per_s: float
    decode_cores: int
    read_mb_per_s: float
    pixels_mb_per_s: float
    plan_hours: float
    advice: IndexAdvice


def run_cost(batch_size: int, shard_rows: int) -> tuple[float, float]:
    """Processor seconds a picture of the coordinator and of the driver."""
    batch = [measured.stage(name) for name in ("claim", "acknowledge")]
    coordinator = sum(cost.of(batch_size) for cost in batch) / batch_size
    coordinator += CALLS_A_BATCH * measured.stage("count").of(batch_size) / batch_size
    coordinator += measured.stage("shard").of(shard_rows) / shard_rows
    driver = measured.stage("driver_batch").of(batch_size) / batch_size
    driver += measured.stage("driver_shard").of(shard_rows) / shard_rows
    return coordinator, driver


def advise(images: float, gpus: int, images_per_s: float, *, on_cpu: bool = False) -> IndexAdvice:
    """Settings of a run on so many GPUs (or pairs of cores) of such a pace."""
    cores = cores_per_gpu(images_per_s)
    preparers = math.ceil(gpus * cores)
    shard_rows = min(MAX_SHARD_ROWS, max(SHARD_ROWS, math.ceil(images / MANY_SHARDS)))
    encoders = gpus * (1 if on_cpu else ENCODERS_PER_GPU)
    pace = gpus * images_per_s
    easy = [size for size in BATCH_SIZES if pace * max(run_cost(size, shard_rows)) <= EASY_LOAD]
    batch_size = min(easy[0] if easy else BATCH_SIZES[-1], shard_rows)
    queued = encoders * 2 * batch_size
    in_flight = max(MIN_IN_FLIGHT, 2 * preparers * shard_rows + queued, SHARDS_IN_FLIGHT * shard_rows)
    return IndexAdvice(
        encoders=encoders,
        gpus_per_encoder=0 if on_cpu else 1 / ENCODERS_PER_GPU,
        preparers=preparers,
        batch_size=batch_size,
        max_in_flight=in_flight,
        max_tasks_in_flight=2,
        shard_rows=shard_rows,
    )


def cores_per_gpu(images_per_s: float) -> float:
    """Cores that read, decode and hand over what one GPU embeds."""
    picture = measured.stage("prepare").per_picture_s + measured.stage("pack").per_picture_s
    return images_per_s * picture * SPARE


def ingest(
    images: float,
    images_per_s: float,
    image_kb: float,
    *,
    gpus: int | None,
    hours: float | None,
    on_cpu: bool,
) -> Ingest:
    """Works out GPUs from hours, or hours from GPUs; one of the two is None. `on_cpu`: pairs of cores for GPUs."""
    paced = images_per_s * GPU_BUSY
    if gpus is None:
        assert hours is not None
        gpus = max(1, math.ceil(images / (hours * 3600 * paced)))
    pace = gpus * paced
    whole = advise(images, gpus, images_per_s, on_cpu=on_cpu)
    limit = PROCESS_LOAD / max(run_cost(BATCH_SIZES[-1], whole.shard_rows))
    runs = math.ceil(pace / limit)
    return Ingest(
        gpus=gpus,
        hours=images / pace / 3600,
        images_per_s=pace,
        runs=runs,
        run_limit_images_per_s=limit,
        decode_cores=math.ceil(gpus * cores_per_gpu(images_per_s)),
        read_mb_per_s=pace * image_kb / 1e3,
        pixels_mb_per_s=pace * PIXEL_BYTES / 1e6,
        plan_hours=measured.stage("plan").per_picture_s * images / 3600,
        advice=whole
        if runs == 1
        else advise(images / runs, math.ceil(gpus / runs), images_per_s, on_cpu=on_cpu),
    )
