"""The Ray Data pipeline: files in, acknowledged writes out, one batch after the other."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError

from batch_index import plan
from batch_index.stages import Decode, Embed, Write
from search_core.errors import SearchError
from search_core.model import ModelSpec
from search_core.settings import Settings
from search_core.store import Store

ENCODER_CPUS = 0.5
WRITER_CPUS = 0.05
MAX_DECODER_CPUS = 1.0
ROWS_PER_BLOCK = 256


@dataclass(frozen=True)
class Acknowledged:
    """A file that was dealt with: written where `reason` is empty, else broken."""

    uri: str
    version: str
    reason: str
    error: str


def run_pipeline(
    tasks: Sequence[plan.Embed],
    spec: ModelSpec,
    settings: Settings,
    open_store: Callable[[], Store],
    collection: str,
) -> Iterator[Acknowledged]:
    """Embeds and writes the tasks' files; yields each file once the store has it, or it proved broken.

    `open_store` is called in the writing process. Needs a connected Ray.
    """
    _quieten()
    index = settings.index
    dataset = ray.data.from_arrow(
        [_table(tasks[i : i + ROWS_PER_BLOCK]) for i in range(0, len(tasks), ROWS_PER_BLOCK)]
    )
    encoder_resources: dict[str, Any] = {"num_cpus": ENCODER_CPUS}
    if index.gpus_per_encoder:
        encoder_resources["num_gpus"] = index.gpus_per_encoder
    acknowledged = (
        dataset.map_batches(
            functools.partial(_call, Decode(spec.preprocess, settings.image, settings.source)),
            batch_size=index.batch_size,
            num_cpus=_decoder_cpus(),
        )
        .map_batches(
            Embed,
            fn_constructor_args=(spec, settings.model),
            batch_size=index.batch_size,
            compute=ActorPoolStrategy(
                size=index.encoders, max_tasks_in_flight_per_actor=index.max_tasks_in_flight
            ),
            zero_copy_batch=False,
            **encoder_resources,
        )
        .map_batches(
            Write,
            fn_constructor_args=(open_store, collection),
            batch_size=index.batch_size,
            compute=ActorPoolStrategy(size=1),
            num_cpus=WRITER_CPUS,
        )
    )
    try:
        for batch in acknowledged.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            for row in zip(batch["uri"], batch["version"], batch["reason"], batch["error"], strict=True):
                yield Acknowledged(*(str(value) for value in row))
    except RayError as error:
        raise _own_error(error) from error


def _own_error(error: BaseException) -> BaseException:
    """This project's error inside Ray's wrapping of it, or what there is."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, SearchError) and not isinstance(inner, RayError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    return error


def _call(stage: Decode, batch: dict[str, Any]) -> dict[str, Any]:
    return stage(batch)


def _table(tasks: Sequence[plan.Embed]) -> pa.Table:
    return pa.table(
        {
            "uri": [task.file.uri for task in tasks],
            "version": [task.file.version for task in tasks],
            "description": [_description(task) for task in tasks],
        }
    )


def _description(task: plan.Embed) -> str:
    return json.dumps(
        {
            "modified": task.file.modified.isoformat() if task.file.modified else None,
            "expected": task.file.expected,
            "captions": list(task.description.captions),
            "columns": dict(task.description.columns),
        }
    )


def _decoder_cpus() -> float:
    """A quarter of a small machine, one core of a large one: the encoder must never wait for a free CPU."""
    cpus: float = ray.cluster_resources().get("CPU", 1.0)
    return min(MAX_DECODER_CPUS, cpus / 8)


def _quieten() -> None:
    """Our own progress bar is the only one."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is raised
