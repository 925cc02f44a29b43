"""One index run: plan, embed what is new, write, optimize, measure means, publish, report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from batch_index import plan as planning
from batch_index.captions import Captions
from batch_index.copies import write_copies
from batch_index.plan import Plan, make_plan
from batch_index.quarantine import Quarantine
from batch_index.report import IndexReport
from batch_index.sources import Source, open_source
from search_core import collections
from search_core.errors import SourceError, StoreLockedError
from search_core.model import ModelSpec, resolve_model
from search_core.server_file import find_server
from search_core.settings import Settings
from search_core.store import Collection, Store, new_collection_name
from search_core.stores import open_store

MEANS_STALE = 1.2
"""Means are measured again once the collection has grown or shrunk by this factor."""


@dataclass(frozen=True)
class IndexRequest:
    """What the command line asks for."""

    sources: Sequence[str]
    captions: Path | None = None
    rebuild: bool = False
    delete_missing: bool = False
    dry_run: bool = False
    retry_quarantined: bool = False


async def run_index(request: IndexRequest, settings: Settings) -> IndexReport:
    """Indexes the sources into the collection that readers see, or into a new one that is then published.

    Raises:
        SearchError: of any kind; what was written stays, and the same call goes on from there.
    """
    sources = [open_source(given, settings.source) for given in request.sources]
    captions = Captions(sources, request.captions)
    spec = resolve_model(settings.model.name)
    with ExitStack() as stack:
        if not request.dry_run:
            stack.enter_context(_only_job(settings.store.path, settings.store.collection))
        job = _Job(request, settings, spec, stack)
        try:
            report = await job.run(sources, captions)
        finally:
            await job.close()
    report.seconds = job.seconds()
    return report


class _Job:
    """The stores and processes of one run. `_catalog` knows all collections, `_target` writes to one."""

    def __init__(self, request: IndexRequest, settings: Settings, spec: ModelSpec, stack: ExitStack) -> None:
        self._started = time.monotonic()
        self._request = request
        self._settings = settings
        self._spec = spec
        self._stack = stack
        self._alias = settings.store.collection
        self._embedded = settings.store.qdrant_url is None
        self._server = find_server(settings.store.path) if self._embedded else None
        self._on_ray = False
        self._own_owner: Store | None = None
        if self._server:
            self._start_ray()
            from search_core.owner import find_owner

            self._catalog: Store = find_owner()
        else:
            self._catalog = open_store(settings.store)
        self._target = self._catalog

    async def run(self, sources: Sequence[Source], captions: Captions) -> IndexReport:
        """The whole run."""
        collection, is_new = await self._choose()
        name = collection.name if collection else new_collection_name(self._alias, self._spec)
        if self._server and is_new and collection and not self._request.dry_run:
            self._target = self._start_owner()  # the server's owner holds what is published, nothing else
        quarantine = Quarantine(Quarantine.path_of(self._settings.store.path, name))
        todo = await make_plan(
            self._target,
            collection.name if collection else None,
            sources,
            captions,
            quarantine,
            delete_missing=self._request.delete_missing,
            retry_quarantined=self._request.retry_quarantined,
        )
        report = _report(name, self._spec, todo)
        if self._request.dry_run:
            report.foresee(**todo.counts())
            return report
        quarantine.release([uri for uri in quarantine.uris() if planning.is_gone(uri, sources)])
        quarantine.save()
        if todo.is_empty and not is_new:
            return report
        if is_new:
            await self._catalog.create(name, self._spec)  # one that is there may have been left half made
        await self._prepare_to_write(is_new)
        await self._write(name, todo, quarantine, report)
        await self._finish(name, is_new, report)
        return report

    def seconds(self) -> float:
        """How long the run has taken so far."""
        return time.monotonic() - self._started

    async def close(self) -> None:
        """Releases stores, whatever happened."""
        if self._own_owner is not None:
            from search_core.owner import stop_owner

            stop_owner(self._own_owner)
        await self._catalog.close()

    async def _choose(self) -> tuple[Collection | None, bool]:
        """The collection to write to (None: one yet to be made), and whether it is still to be published."""
        current = (await self._catalog.aliases()).get(self._alias)
        if current is not None and not self._request.rebuild:
            collection = await self._catalog.describe(current)
            collection.require(self._spec)
            return collection, False
        return await collections.unfinished(self._catalog, self._alias, self._spec), True

    async def _prepare_to_write(self, is_new: bool) -> None:
        """Brings Ray up and, for an embedded store, makes sure that an actor holds the target."""
        if not self._on_ray:
            await self._catalog.close()
            self._start_ray()
            self._target = self._start_owner() if self._embedded else open_store(self._settings.store)
            self._catalog = self._target
        elif is_new and self._target is self._catalog:
            self._target = self._start_owner()

    async def _write(self, name: str, todo: Plan, quarantine: Quarantine, report: IndexReport) -> None:
        with tqdm(total=len(todo.embed) + len(todo.copy), unit=" pictures", disable=None) as bar:
            copied = await write_copies(
                self._target, name, todo.copy
            )  # before any origin is changed or deleted
            self._count(report, copied.written, quarantine, bar)
            await self._target.delete(name, todo.delete)
            report.deleted = len(todo.delete)
            self._embed(name, todo.embed, quarantine, report, bar)
            copied = await write_copies(self._target, name, copied.missing)  # of what has just been embedded
            self._count(report, copied.written, quarantine, bar)
            self._embed(name, [_as_embed(copy) for copy in copied.missing], quarantine, report, bar)
        quarantine.save()

    def _embed(
        self,
        name: str,
        tasks: Sequence[planning.Embed],
        quarantine: Quarantine,
        report: IndexReport,
        bar: Any,
    ) -> None:
        if not tasks:
            return
        from batch_index.pipeline import run_pipeline

        actions = {task.file.uri: task.action for task in tasks}
        try:
            for row in run_pipeline(tasks, self._spec, self._settings, self._store_opener(), name):
                bar.update()
                if row.reason:
                    quarantine.add(row.uri, row.reason, row.error, row.version)
                    report.quarantined += 1
                    continue
                quarantine.release([row.uri])
                report.embedded += 1
                _add(report, actions[row.uri])
        finally:
            quarantine.save()

    def _count(
        self, report: IndexReport, written: Sequence[planning.Copy], quarantine: Quarantine, bar: Any
    ) -> None:
        for copy in written:
            _add(report, copy.action)
            bar.update()
        quarantine.release(copy.file.uri for copy in written)

    async def _finish(self, name: str, is_new: bool, report: IndexReport) -> None:
        collection = await self._target.describe(name)
        if collection.count == 0 and is_new:
            raise SourceError(
                f"none of the {report.seen} files could be indexed: `image-search status` says why, file by file"
            )
        if await self._target.unindexed(name) > self._settings.store.optimize_after:
            await self._target.optimize(name)
        measured = int(collection.metadata.get("means_count", 0))
        if collection.count and not measured / MEANS_STALE <= collection.count <= measured * MEANS_STALE:
            from batch_index.means import measure_means

            means = await measure_means(self._target, name, self._spec, self._settings.model)
            await self._target.annotate(name, {"means": means, "means_count": collection.count})
        report.seconds = self.seconds()
        await self._target.annotate(name, {"last_run": report.to_dict(), "count": collection.count})
        if is_new:
            await self._publish(name)

    async def _publish(self, name: str) -> None:
        if self._server and self._own_owner is not None:
            from search_core.owner import stop_owner

            stop_owner(self._own_owner)  # lets go of the shard, which the server's owner opens
            self._own_owner = None
        await collections.publish(self._catalog, self._alias, name)

    def _start_ray(self) -> None:
        from batch_index.runtime import ray_runtime

        address = self._server.ray_address if self._server else None
        self._stack.enter_context(ray_runtime(address, self._settings.index.cpus))
        self._on_ray = True

    def _start_owner(self) -> Store:
        from search_core.owner import start_owner

        self._own_owner = start_owner(self._settings.store, f"edge-owner-{os.getpid()}")
        return self._own_owner

    def _store_opener(self) -> Callable[[], Store]:
        """Opens the target in another process of this Ray; holds no connection itself."""
        if self._embedded:
            target = self._target
            return lambda: target
        store_settings = self._settings.store
        return lambda: open_store(store_settings)


def _as_embed(copy: planning.Copy) -> planning.Embed:
    """A copy whose origin is gone is embedded after all; a move becomes an add."""
    action: planning.Action = "updated" if copy.action == "updated" else "added"
    return planning.Embed(copy.file, copy.description, action)


def _report(name: str, spec: ModelSpec, todo: Plan) -> IndexReport:
    return IndexReport(
        name, spec.name, seen=todo.seen, unchanged=todo.unchanged, quarantined=todo.quarantined
    )


def _add(report: IndexReport, action: str) -> None:
    setattr(report, action, getattr(report, action) + 1)


@contextmanager
def _only_job(store: Path, alias: str) -> Iterator[None]:
    """Keeps two runs from writing the same collection at once.

    Raises:
        StoreLockedError: another run has it.
    """
    store.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(store / f"index-{alias}.lock", timeout=0):
            yield
    except Timeout:
        raise StoreLockedError(
            f"another index run is writing {alias!r} in {store}: wait for it or stop it"
        ) from None
