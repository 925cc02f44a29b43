"""The Ray Data pipeline: the plan's shards in, acknowledged pictures out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)

from batch_index import rows
from batch_index.coordinator_client import RemoteCoordinator, lost
from batch_index.embed import EmbedAndWrite
from batch_index.plan_source import PlanSource
from batch_index.prepare import Prepare
from batch_index.resources import ENCODER_CPUS, prepare_cpus
from search_core.errors import SearchError
from search_core.model import ModelSpec
from search_core.settings import Settings
from search_core.store import Store

CALLS_AT_ONCE = 2
"""Of one encoder: while one batch is written the next is embedded."""
BLOCK_BYTES = 1
"""Every row is a batch (`batch_index.rows`) and goes on at once instead of waiting for company."""
LIGHT_PIXELS = 64 * 64
"""Models of smaller pictures than this (the fake one) are no work: decoding them is, and gets the cores."""

LOSSES = (
    RayActorError,
    NodeDiedError,
    WorkerCrashedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
)


class EmbedPacked(EmbedAndWrite):
    """The second stage as Ray Data makes and calls it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        restarted = ray.get_runtime_context().was_current_actor_reconstructed
        super().__init__(*args, **kwargs, restarted=restarted)

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """One packed batch in, one out."""
        return rows.pack(await super().__call__(rows.unpack(batch)))


@dataclass(frozen=True)
class Job:
    """What the stages of a run have in common."""

    coordinator: RemoteCoordinator
    spec: ModelSpec
    settings: Settings
    open_store: Callable[[], Store]
    collection: str
    to_embed: bool
    texts: Sequence[str]


def run_pipeline(job: Job, shards: int) -> Iterator[pa.Table]:
    """Prepares, embeds and writes the plan's shards; yields tables of `batch_index.rows.ACKNOWLEDGED`.

    Needs a connected Ray, and `own_errors` round it.
    """
    _configure()
    index, cpus = job.settings.index, ray.cluster_resources().get("CPU", 1.0)
    prepare = Prepare(
        job.coordinator, job.spec.preprocess, job.settings.source, job.settings.image, index.batch_size
    )
    encoder_resources: dict[str, Any] = {"num_cpus": ENCODER_CPUS}
    if index.gpus_per_encoder:
        encoder_resources["num_gpus"] = index.gpus_per_encoder
    acknowledged = ray.data.read_datasource(
        PlanSource(prepare, shards),
        override_num_blocks=shards,
        compute=TaskPoolStrategy(size=min(shards, _preparers(job, cpus))),
        num_cpus=prepare_cpus(cpus),
    ).map_batches(
        EmbedPacked,
        fn_constructor_args=(
            job.coordinator,
            job.spec,
            _model(job, cpus),
            job.open_store,
            job.collection,
        ),
        fn_constructor_kwargs={"to_embed": job.to_embed, "texts": job.texts},
        batch_size=1,  # packed one; where there is a GPU, Ray insists on a number
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            size=min(index.encoders, shards),
            max_tasks_in_flight_per_actor=max(CALLS_AT_ONCE, index.max_tasks_in_flight),
            max_concurrent_calls_per_actor=CALLS_AT_ONCE,
        ),
        **encoder_resources,
    )
    batches = acknowledged.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    yield from map(rows.unpack, batches)


def _preparers(job: Job, cpus: float) -> int:
    """How many shards are read and decoded at once: what the encoders leave of the cores."""
    index = job.settings.index
    if index.preparers:
        return index.preparers
    height, width = job.spec.preprocess.size
    on_cpu = not index.gpus_per_encoder and height * width > LIGHT_PIXELS
    return max(1, int(cpus) - index.encoders) if on_cpu else max(1, int(cpus))


def _model(job: Job, cpus: float) -> Any:
    """Model settings whose number of threads is known: an encoder on a CPU has its share of the cores."""
    model, index = job.settings.model, job.settings.index
    if model.threads or index.gpus_per_encoder:
        return model
    return model.model_copy(update={"threads": max(1, int(cpus) // index.encoders)})


@contextmanager
def own_errors() -> Iterator[None]:
    """Raises what went wrong in another process of this Ray as this project's error, if it is one.

    Raises:
        RunError: a process or node has ended that the run cannot do without.
    """
    try:
        yield
    except RayError as error:
        chain = list(_causes(error))
        for inner in chain:
            if isinstance(inner, SearchError) and not isinstance(inner, RayError):
                raise _as_raised(inner) from error
        for inner in chain:
            if isinstance(inner, LOSSES) and not getattr(inner, "actor_init_failed", False):
                raise lost(inner) from error
        raise


def _as_raised(error: SearchError) -> SearchError:
    """Without the lines on retries that Ray Data adds to the first argument of whatever a stage raises."""
    if error.args and isinstance(error.args[0], str):
        error.args = (error.args[0].partition("\n")[0], *error.args[1:])
    return error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what is inside Ray's wrapping of it."""
    inner: BaseException | None = error
    while inner is not None:
        yield inner
        inner = getattr(inner, "cause", None) or inner.__cause__


def _configure() -> None:
    """Our own progress bar is the only one."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = BLOCK_BYTES
    context.raise_original_map_exception = (
        True  # Ray Data's wrapping would lose it on its way between processes
    )
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is raised
