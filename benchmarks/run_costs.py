"""What an index run costs beside its stages: the coordinator's calls, and the driver's work on batches and shards.

Both are one process in a run, however many GPUs there are: what they cost a batch bounds the whole. Processor seconds of
the real coordinator as an actor, and of the driver of real runs over small pictures, whose batches differ in number.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
import ray

from batch_index.coordinator_client import RemoteCoordinator
from batch_index.plan_file import SHARD_ROWS, SHARDS_IN_FLIGHT, PlanFile, Task
from batch_index.runtime import ray_runtime
from benchmarks.scale import make_corpus
from benchmarks.stage_times import BATCHES, COLLECTION, line
from cli.indexing import run as index
from cluster.capacity.measured import Cost
from search_core.errors import StartError
from search_core.settings import IndexSettings, ModelSettings, Settings
from tests.fixtures.qdrant_server import QdrantServer

Result = TypeVar("Result")
CALLS = 300
TRIES = 4
ROUND_TRIPS = 300
CORPORA = (4_096, 12_288)
"""Pictures."""
LIGHT_BATCHES = (16, 64)
ROWS = 512
"""Of a shard of these runs."""


def coordinator_costs(folder: Path) -> dict[str, Any]:
    """Fields of `StageTimes`: processor seconds of each kind of call, and an idle round trip."""
    plan = PlanFile(folder / "plan.db")
    numbers = range(CALLS * max(BATCHES))
    plan.add((Task(f"file:///pictures/{n:012}.jpg", "1:1", 1, "", "{}", "", "added"), "") for n in numbers)
    shards = plan.cut()
    plan.close()
    with ray_runtime(None, IndexSettings()):
        coordinator = RemoteCoordinator.start(
            plan.path, None, COLLECTION, fresh=True, max_in_flight=len(numbers)
        )
        coordinator.progress()
        family = psutil.Process().children(recursive=True)
        (process,) = (one for one in family if "ray::Coordinator" in " ".join(one.cmdline()))

        def cost(method: str, arguments: Callable[[int], tuple[Any, ...]]) -> float:
            asked = [arguments(number) for number in range(CALLS)]
            before = sum(process.cpu_times()[:2])
            ray.get([getattr(coordinator._actor, method).remote(*one) for one in asked])
            return (sum(process.cpu_times()[:2]) - before) / CALLS

        handing_out = [cost(method, lambda n: (n % shards,)) for method in ("shard", "care")]
        claims, acknowledgements = [], []
        for size in BATCHES:
            claims.append(cost("claim", lambda n, size=size: _bytes_of(size, n)))  # type: ignore[misc]
            rows = list(range(1, size + 1))
            acknowledgements.append(cost("acknowledge", lambda n, rows=rows: (n % shards, rows, [])))  # type: ignore[misc]
        counting = cost("count", lambda _: ("embed", 64, 0.1))
        trips = []
        for _ in range(ROUND_TRIPS):
            began = time.perf_counter()
            coordinator.count("embed", 64, 0.1)
            trips.append(time.perf_counter() - began)
        coordinator.stop()
    return {
        "shard": Cost(0.0, sum(handing_out) / SHARD_ROWS),
        "claim": line(BATCHES, claims),
        "count": Cost(counting),
        "acknowledge": line(BATCHES, acknowledgements),
        "round_trip_s": statistics.median(trips),
    }


def _bytes_of(size: int, number: int) -> tuple[list[str], list[str]]:
    """Ids and hashes of a batch that no other call has."""
    first = (size * CALLS + number) * max(BATCHES)
    some = range(first, first + size)
    return [f"{one:036}" for one in some], [f"{one:064}" for one in some]


def patiently(call: Callable[[], Result]) -> Result:
    """Tries again where Ray does not start, as on a machine that others use too."""
    for _ in range(TRIES - 1):
        with suppress(StartError):
            return call()
    return call()


def driver_costs(folder: Path, server: QdrantServer) -> dict[str, Any]:
    """Fields of `StageTimes`: a run with smaller batches shows what a batch costs, a larger corpus what a shard does,
    and dry runs what planning is of that.
    """
    few, many = CORPORA
    small, large = LIGHT_BATCHES
    planned = [_driver_s(folder, server, count, large, dry_run=True) for count in CORPORA]
    less, more, finer = (
        patiently(partial(_driver_s, folder, server, *run))
        for run in ((few, large), (many, large), (many, small))
    )
    plan = line(CORPORA, planned)
    per_batch = max(0.0, (finer - more) / (many / small - many / large))
    per_picture = (more - less) / (many - few) - plan.per_picture_s - per_batch / large
    return {
        "plan": plan,
        "driver_batch": Cost(per_batch),
        "driver_shard": Cost(max(0.0, per_picture) * ROWS),
    }


def _driver_s(
    folder: Path, server: QdrantServer, count: int, batch_size: int, *, dry_run: bool = False
) -> float:
    """Processor seconds of this process while it drives a run."""
    corpus = folder / f"pictures-{count}"
    if not corpus.is_dir():
        make_corpus(corpus, count)
    server.clear()
    settings = Settings(
        store=server.settings(folder / f"state-{count}-{batch_size}"),
        model=ModelSettings(name="fake/8"),
        index=IndexSettings(batch_size=batch_size, max_in_flight=ROWS * SHARDS_IN_FLIGHT, progress_s=0),
    )
    began = time.process_time()
    report = index(settings, [str(corpus)], dry_run=dry_run)
    spent = time.process_time() - began
    assert report.added == count, report
    return spent


def measure_run(folder: Path, server: QdrantServer) -> dict[str, Any]:
    """The fields of `StageTimes` that need Ray."""
    return {**patiently(partial(coordinator_costs, folder)), **driver_costs(folder, server)}
