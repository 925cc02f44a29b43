"""One index run: plan, embed what is new, write, build the index, measure means, publish, report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from batch_index.captions import Captions
from batch_index.display import Display
from batch_index.gate import Judge, pass_gate
from batch_index.means import image_mean, phrases
from batch_index.plan import Plan, is_gone, make_plan
from batch_index.plan_file import PlanFile
from batch_index.quarantine import Quarantine
from batch_index.report import IndexReport
from batch_index.sources import Reader, Source, open_source
from batch_index.target import Target
from batch_index.uploads import Uploads
from search_core import collections
from search_core.errors import SourceError, StoreLockedError
from search_core.model import ModelSpec, resolve_model
from search_core.points import Vectors
from search_core.settings import Settings
from search_core.store import Collection, new_collection_name

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
    within_server: bool = False
    """This process is a server that holds the store, connected to its Ray."""
    judge: Judge | None = None
    """Further checks of a new collection before it is published."""


async def run_index(request: IndexRequest, settings: Settings) -> IndexReport:
    """Indexes the sources into the collection that readers see, or into a new one that is then published.

    Raises:
        SearchError: of any kind; what was written stays, and the same call goes on from there.
    """
    sources = [open_source(given, settings.source, settings.own_folders) for given in request.sources]
    captions = Captions(sources, request.captions)
    spec = resolve_model(settings.model.name)
    with _only_job(settings.store.path, settings.store.collection, dry_run=request.dry_run) as folder:
        job = _Job(request, settings, spec, folder)
        try:
            report = await job.run(sources, captions)
        finally:
            await job.close()
    report.seconds = job.seconds()
    return report


class _Job:
    """One run; `folder` is for files that nobody needs after it."""

    def __init__(self, request: IndexRequest, settings: Settings, spec: ModelSpec, folder: Path) -> None:
        self._started = time.monotonic()
        self._request = request
        self._settings = settings
        self._spec = spec
        self._alias = settings.store.collection
        self._display = Display(settings.index.progress_s)
        self._target = Target(settings, within_server=request.within_server)
        self._file = PlanFile(folder.absolute() / "plan.db")  # workers have another working folder

    async def run(self, sources: Sequence[Source], captions: Captions) -> IndexReport:
        """The whole run."""
        if not self._request.dry_run:
            self._target.require_room()
        collection, is_new = await self._choose()
        name = collection.name if collection else new_collection_name(self._alias, self._spec)
        if is_new and collection and not self._request.dry_run:
            self._target.build_beside()
        quarantine = Quarantine(Quarantine.path_of(self._settings.store.path, name))
        report = IndexReport(name, self._spec.name)
        with report.phase("plan"), self._display.phase("listing") as listed:
            plan = await make_plan(
                self._target.store,
                collection.name if collection else None,
                sources,
                captions,
                quarantine,
                Reader(self._settings.source, self._settings.image),
                self._file,
                delete_missing=self._request.delete_missing,
                exactly=is_new,
                retry_quarantined=self._request.retry_quarantined,
                uploads=await self._uploads() if is_new else None,
                listed=listed,
            )
        report.seen, report.unchanged, report.quarantined = plan.seen, plan.unchanged, plan.quarantined
        if self._request.dry_run:
            report.foresee(added=plan.added, updated=plan.updated, moved=plan.moved, deleted=plan.deleted)
            return report
        quarantine.release(uri for uri in plan.unlisted(quarantine.uris()) if is_new or is_gone(uri, sources))
        quarantine.save()
        if plan.is_empty and not is_new:
            await self._target.store.annotate(name, collections.run_ended(len(quarantine)))
            return report
        with report.phase("load"):
            if plan.tasks or is_new:  # deletions alone need no other process
                await self._target.prepare_to_write()
            if self._target.dashboard:
                self._display.say(f"Ray's dashboard: {self._target.dashboard}")
            if is_new:
                await self._target.catalog.create(name, self._spec, bulk=True)  # may be there, half made
                self._target.build_beside()
            await self._write(name, plan, quarantine, report)
        await self._finish(name, is_new, quarantine, report)
        return report

    def seconds(self) -> float:
        """How long the run has taken so far."""
        return time.monotonic() - self._started

    async def close(self) -> None:
        """Releases stores, whatever happened."""
        self._file.close()
        await self._target.close()

    async def _choose(self) -> tuple[Collection | None, bool]:
        """The collection to write to (None: one yet to be made), and whether it is still to be published."""
        catalog = self._target.catalog
        current = (await catalog.aliases()).get(self._alias)
        if current is not None and not self._request.dry_run:
            await collections.publish(
                catalog, self._alias, current
            )  # where a run ended in the middle of that
        if current is not None and not self._request.rebuild:
            collection = await catalog.describe(current)
            collection.require(self._spec)
            return collection, False
        return await collections.unfinished(catalog, self._alias, self._spec), True

    async def _uploads(self) -> Uploads | None:
        """What was uploaded to the collection that is published now, if one is."""
        catalog = self._target.catalog
        current = (await catalog.aliases()).get(self._alias)
        return Uploads(catalog, current, self._settings.media_root) if current is not None else None

    async def _write(self, name: str, plan: Plan, quarantine: Quarantine, report: IndexReport) -> None:
        store = self._target.store
        before = await store.describe(name)
        text_mean: Vectors | None = None
        if plan.tasks:
            from batch_index.run import run_tasks

            stale = _means_are_stale(before, before.count + plan.added)
            text_mean = await run_tasks(
                plan,
                self._spec,
                self._settings,
                self._target.opener(),
                before,
                phrases(plan.captions) if stale else (),
                quarantine,
                report,
                self._display,
            )
        if plan.deleted:
            for ids in plan.file.gone_ids():
                await store.delete(name, ids)
            report.deleted = plan.deleted
        after = await store.describe(name)
        if (
            not plan.tasks and after.count and _means_are_stale(before, after.count)
        ):  # a run was stopped after its last picture
            text_mean = self._mean_of(phrases(()))
        if text_mean is not None and after.count:
            means = {"text": text_mean.tolist(), "image": (await image_mean(store, name)).tolist()}
            await store.annotate(name, {"means": means, "means_count": after.count})

    def _mean_of(self, texts: Sequence[str]) -> Vectors:
        """float32 [dim], by a model that is loaded for this in the driver."""
        from batch_index.embed import mean_of_texts
        from search_core.encoder import load_encoder

        encoder = load_encoder(self._spec, self._settings.model)
        return mean_of_texts(lambda: encoder, texts)

    async def _finish(self, name: str, is_new: bool, quarantine: Quarantine, report: IndexReport) -> None:
        store = self._target.store
        collection = await store.describe(name)
        if collection.count == 0 and is_new:
            raise SourceError(
                f"none of the {report.seen} files could be indexed: `image-search status` says why, file by file"
            )
        # where a load ends, indexes that waited for it are built
        if is_new or await store.unindexed(name) > self._settings.store.optimize_after:
            self._display.say(f"building the indexes of {collection.count:,} pictures")
            with report.phase("hnsw"):
                await store.optimize(name)
        report.seconds = self.seconds()
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        last_run = {**report.to_dict(), "ended": ended}
        noted = collections.run_ended(len(quarantine))
        await store.annotate(name, {"last_run": last_run, "count": collection.count, **noted})
        if is_new:
            with report.phase("publish"):
                await self._publish(name, quarantine, report)

    async def _publish(self, name: str, quarantine: Quarantine, report: IndexReport) -> None:
        catalog = self._target.catalog
        current = (await catalog.aliases()).get(self._alias)
        await pass_gate(
            self._target.store,
            name,
            expected=report.seen - report.quarantined,
            unreachable=sum(failure.is_out_of_reach for failure in quarantine.failures()),
            replaced=await catalog.describe(current) if current else None,
            settings=self._settings.publish,
            judge=self._request.judge,
        )
        await self._target.hand_over()
        await collections.publish(self._target.catalog, self._alias, name)
        await collections.prune(self._target.catalog, self._alias, self._settings.publish.keep)


def _means_are_stale(collection: Collection, count: int) -> bool:
    """Whether a collection that will have so many points needs new means."""
    measured = int(collection.metadata.get("means_count", 0))
    return not measured / MEANS_STALE <= count <= measured * MEANS_STALE


@contextmanager
def _only_job(store: Path, alias: str, *, dry_run: bool) -> Iterator[Path]:
    """Keeps two runs from writing the same collection at once; gives a folder for the run's own files.

    Raises:
        StoreLockedError: another run has it.
    """
    if dry_run:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    store.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(store / f"index-{alias}.lock", timeout=0):
            folder_of_run = store / f"run-{alias}"
            yield folder_of_run
            for path in folder_of_run.glob("*"):
                path.unlink()
    except Timeout:
        raise StoreLockedError(
            f"another index run is writing {alias!r} in {store}: wait for it or stop it"
        ) from None
