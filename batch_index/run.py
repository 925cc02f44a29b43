"""Carrying a plan out: the pipeline's passes, and what their acknowledgements mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from batch_index import rows
from batch_index.coordinator_client import RemoteCoordinator
from batch_index.pipeline import Job, own_errors, run_pipeline
from batch_index.plan import Plan
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
    outcome = _Outcome(quarantine, report)
    try:
        with own_errors(), tqdm(total=plan.tasks, unit=" pictures", disable=None) as bar:
            while shards:
                for table in run_pipeline(job, shards):
                    outcome.take(table)
                    bar.update(table.num_rows - len(outcome.deferred(table)))
                    _acknowledge(coordinator, table, outcome)
                shards = coordinator.second_pass()
                job = replace(job, to_embed=False, texts=())
    finally:
        quarantine.save()
        coordinator.stop()
    return outcome.text_mean


class _Outcome:
    """Turns acknowledged rows into counts and quarantine."""

    def __init__(self, quarantine: Quarantine, report: IndexReport) -> None:
        self._quarantine = quarantine
        self._report = report
        self.text_mean: Vectors | None = None

    @staticmethod
    def deferred(table: pa.Table) -> list[int]:
        """Rows that were put off."""
        return [
            row
            for row, outcome in zip(table["row"].to_pylist(), table["outcome"].to_pylist(), strict=True)
            if outcome == rows.DEFERRED
        ]

    def take(self, table: pa.Table) -> None:
        """Counts the rows of a table."""
        for record in table.to_pylist():
            outcome = record["outcome"]
            if record["text_mean"]:
                self.text_mean = np.frombuffer(record["text_mean"], dtype=np.float32)
            if outcome == rows.BROKEN:
                self._quarantine.add(record["uri"], record["reason"], record["error"], record["version"])
                self._report.quarantined += 1
            elif outcome in {rows.EMBED, rows.REUSE}:
                self._quarantine.release([record["uri"]])
                self._report.embedded += outcome == rows.EMBED
                action = record["action"]
                setattr(self._report, action, getattr(self._report, action) + 1)


def _acknowledge(coordinator: RemoteCoordinator, table: pa.Table, outcome: _Outcome) -> None:
    deferred = set(outcome.deferred(table))
    by_shard: dict[int, list[int]] = {}
    for shard, row in zip(table["shard"].to_pylist(), table["row"].to_pylist(), strict=True):
        by_shard.setdefault(shard, []).append(row)
    for shard, done in by_shard.items():
        coordinator.acknowledge(shard, done, [row for row in done if row in deferred])
