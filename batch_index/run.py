"""Carrying a plan out: the pipeline's passes, and what their acknowledgements mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_index import rows
from batch_index.coordinator_client import RemoteCoordinator
from batch_index.display import Display
from batch_index.metrics import IndexMetrics
from batch_index.pipeline import Job, own_errors, run_pipeline
from batch_index.plan import Plan
from batch_index.progress import Rates
from batch_index.quarantine import Quarantine
from batch_index.report import IndexReport
from search_core.model import ModelSpec
from search_core.points import Vectors
from search_core.settings import Settings
from search_core.store import Collection, Store


async def run_tasks(
    plan: Plan,
    spec: ModelSpec,
    settings: Settings,
    open_store: Callable[[], Store],
    collection: Collection,
    texts: Sequence[str],
    quarantine: Quarantine,
    report: IndexReport,
    display: Display,
) -> Vectors | None:
    """Indexes all tasks of the plan; gives the mean of `texts`, float32 [dim], if there are any.

    What has the same bytes as another picture of the plan is put off until that one is written: a second pass takes
    over its vector. Needs a connected Ray; counts in `report` and notes in `quarantine` what comes out.
    """
    shards = plan.file.cut(settings.index.max_in_flight)
    coordinator = RemoteCoordinator.start(
        plan.file.path,
        open_store,
        collection.name,
        fresh=collection.count == 0,
        max_in_flight=settings.index.max_in_flight,
    )
    job = Job(coordinator, spec, settings, open_store, collection.name, plan.to_embed, texts)
    outcome = _Outcome(quarantine, report, IndexMetrics(collection.name), plan.tasks)
    try:
        looking = Rates(coordinator.progress)
        with own_errors(), display.phase("indexing", plan.tasks, looking) as advance:
            while shards:
                for table in run_pipeline(job, shards):
                    done = outcome.take(table)
                    _acknowledge(coordinator, table)  # first, so that nothing is shown as done and in flight
                    advance(done)
                shards = coordinator.second_pass()
                job = replace(job, to_embed=False, texts=())
            report.stages = {name: asdict(count) for name, count in coordinator.progress().stages.items()}
    finally:
        quarantine.save()
        coordinator.stop()
    return outcome.text_mean


class _Outcome:
    """Turns rows that are written, broken or put off into counts and quarantine."""

    def __init__(
        self, quarantine: Quarantine, report: IndexReport, metrics: IndexMetrics, remaining: int
    ) -> None:
        self._quarantine = quarantine
        self._report = report
        self._metrics = metrics
        self._remaining = remaining
        self.text_mean: Vectors | None = None

    def take(self, table: pa.Table) -> int:
        """Counts the rows of a table; gives how many of them need not be looked at again."""
        for mean in table["text_mean"].filter(pc.greater(pc.binary_length(table["text_mean"]), 0)):
            self.text_mean = np.frombuffer(mean.as_buffer(), dtype=np.float32)
        broken = table.filter(pc.equal(table["outcome"], rows.BROKEN))
        for record in broken.select(["uri", "reason", "error", "version"]).to_pylist():
            self._quarantine.add(**record)
        self._quarantine.save_some()
        written = table.filter(pc.is_in(table["outcome"], pa.array([rows.EMBED, rows.REUSE])))
        if len(self._quarantine):
            self._quarantine.release(written["uri"].to_pylist())
        counts = {"quarantined": broken.num_rows}
        counts |= {pair["values"]: pair["counts"] for pair in written["action"].value_counts().to_pylist()}
        for name, count in counts.items():
            setattr(self._report, name, getattr(self._report, name) + count)
            self._metrics.outcome(name, count)
        self._report.embedded += pc.sum(pc.equal(written["outcome"], rows.EMBED)).as_py() or 0
        done: int = written.num_rows + broken.num_rows  # what was done before was counted then
        self._remaining -= done
        self._metrics.remaining(self._remaining)
        return done


def _acknowledge(coordinator: RemoteCoordinator, table: pa.Table) -> None:
    """Tells the coordinator of the rows of a table, shard by shard."""
    for shard in pc.unique(table["shard"]).to_pylist():
        mine = table.filter(pc.equal(table["shard"], shard))
        deferred = mine["row"].filter(pc.equal(mine["outcome"], rows.DEFERRED))
        coordinator.acknowledge(shard, mine["row"].to_pylist(), deferred.to_pylist())
