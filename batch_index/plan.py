"""The plan: what a run has to do, from what the sources list and what the collection holds.

Both are read page by page, and what comes of it goes to a `PlanFile`. Nothing is decoded and no model is loaded.
A file is read only to hash it, and only where one of its size is gone: it may have been moved.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from batch_index.captions import Captions, Description
from batch_index.plan_file import PlanFile, Task
from batch_index.quarantine import Quarantine
from batch_index.sources import Reader, Source, SourceItem
from batch_index.uploads import Uploads
from search_core.errors import SourceError
from search_core.payload import image_payload
from search_core.points import Payload, point_id
from search_core.store import Store

PAGE = 1_000
SAMPLED_CAPTIONS = 1_000
SURVEY_FIELDS = ("uri", "bytes", "content_hash")

T = TypeVar("T")


@dataclass
class Plan:
    """How much there is to do; what, is in the `file`. Every listed picture counts in one of the first five."""

    file: PlanFile
    added: int = 0
    updated: int = 0
    moved: int = 0
    unchanged: int = 0
    quarantined: int = 0
    deleted: int = 0
    """Points whose file is gone and did not move, if deleting them was asked for."""
    changed: int = 0
    """Those of the updated whose bytes may be new; the others have a new description."""
    captions: list[str] = field(default_factory=list)
    """Some of the captions of what is to be indexed, drawn with equal chances."""

    @property
    def seen(self) -> int:
        """Pictures in the sources."""
        return self.tasks + self.unchanged + self.quarantined

    @property
    def tasks(self) -> int:
        """Pictures to index."""
        return self.added + self.updated + self.moved

    @property
    def to_embed(self) -> bool:
        """Whether there are pictures whose vector is not known yet."""
        return self.added + self.changed > 0

    def unlisted(self, uris: Sequence[str]) -> list[str]:
        """Those of the URIs that the sources do not list."""
        ids = {uri: point_id(uri) for uri in uris}
        unseen = self.file.unseen(list(ids.values()))
        return [uri for uri, id in ids.items() if id in unseen]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.tasks or self.deleted)


@dataclass
class _Comparison:
    """What is being compared; `known` counts the listed pictures that the collection has."""

    store: Store
    collection: str | None
    captions: Captions
    quarantine: Quarantine
    retry_quarantined: bool
    known: int = 0


async def make_plan(
    store: Store,
    collection: str | None,
    sources: Sequence[Source],
    captions: Captions,
    quarantine: Quarantine,
    reader: Reader,
    file: PlanFile,
    *,
    delete_missing: bool,
    exactly: bool = False,
    retry_quarantined: bool = False,
    uploads: Uploads | None = None,
    listed: Callable[[int], object] = id,
) -> Plan:
    """Compares sources, and `uploads` after them, with the collection (None: one that does not exist yet); fills `file`.

    `delete_missing` forgets points below the sources whose picture is gone; `exactly`, for a collection that nobody
    reads yet, every point that the sources do not list. `listed` is told of each few pictures that were listed and compared.

    Raises:
        SourceError: the sources hold no pictures at all, or cannot be listed to their end.
    """
    plan = Plan(file)
    stored = (await store.describe(collection)).count if collection is not None else 0
    comparison = _Comparison(store, collection if stored else None, captions, quarantine, retry_quarantined)
    sampler = _Sampler()
    async for page in _pages(sources, uploads, file):
        tasks = await _compare(plan, comparison, page)
        file.add((task, reader.group(task.uri)) for task in tasks)
        sampler.offer(tasks)
        listed(len(page))
    plan.captions = sampler.kept
    if collection is not None and stored > comparison.known and (plan.added or delete_missing or exactly):
        await _survey(store, collection, file, lambda uri: exactly or is_gone(uri, sources))
        _find_moved(plan, reader)
    if delete_missing or exactly:
        plan.deleted = file.gone_count()
    return plan


async def _pages(
    sources: Sequence[Source], uploads: Uploads | None, file: PlanFile
) -> AsyncIterator[Sequence[SourceItem]]:
    for page in batched(list_items(sources, file), PAGE):
        yield page
    if uploads is not None:
        async for items in uploads.pages():
            new = file.note_seen([point_id(item.uri) for item in items])
            yield [item for item in items if point_id(item.uri) in new]


def list_items(sources: Sequence[Source], file: PlanFile) -> Iterator[SourceItem]:
    """All pictures of all sources, each once; notes them in the file.

    Raises:
        SourceError: there is none at all.
    """
    empty = True
    for source in sources:
        for page in batched(source.items(), PAGE):
            empty = False
            ids = {item.uri: point_id(item.uri) for item in page}
            new = file.note_seen(list(ids.values()))
            once = {uri: item for item in page if ids[uri := item.uri] in new}
            yield from once.values()
    if empty:
        raise SourceError(f"no pictures in {', '.join(source.given for source in sources)}")


async def _compare(plan: Plan, given: _Comparison, items: Sequence[SourceItem]) -> list[Task]:
    """The tasks of one page; counts the rest."""
    known = await _known(given, items)
    given.known += len(known)
    tasks: list[Task] = []
    for item in items:
        if not given.retry_quarantined and given.quarantine.holds(item.uri, item.version):
            plan.quarantined += 1
            continue
        description = given.captions.of(item)
        before = known.get(point_id(item.uri))
        if before is None:
            plan.added += 1
            tasks.append(_task(item, description, "added"))
        elif before.get("source_version") != item.version:
            plan.updated += 1
            plan.changed += 1
            tasks.append(_task(item, description, "updated"))
        elif _described(before, item, description) != before:
            plan.updated += 1
            own = point_id(item.uri), str(before["content_hash"])
            tasks.append(_task(item, description, "updated", *own))
        else:
            plan.unchanged += 1
    return tasks


async def _known(given: _Comparison, items: Iterable[SourceItem]) -> dict[str, Payload]:
    if given.collection is None:
        return {}
    points = await given.store.retrieve(given.collection, [point_id(item.uri) for item in items])
    return {point.id: point.payload for point in points}


def _task(
    item: SourceItem, description: Description, action: str, origin: str = "", content_hash: str = ""
) -> Task:
    told = {"captions": list(description.captions), "columns": dict(description.columns)}
    modified = item.modified.isoformat() if item.modified else ""
    return Task(
        item.uri,
        item.version,
        item.size,
        modified,
        json.dumps(told, default=str),
        item.expected,
        action,  # type: ignore[arg-type]
        origin,
        content_hash,
    )


def _described(before: Payload, item: SourceItem, description: Description) -> Payload:
    """The payload that the picture would have now if its bytes are the same."""
    return image_payload(
        item.uri,
        width=before["width"],
        height=before["height"],
        format=before["format"],
        size_bytes=before["bytes"],
        content_hash=before["content_hash"],
        source_version=item.version,
        modified=item.modified,
        captions=description.captions,
        extra=json.loads(json.dumps(dict(description.columns), default=str)),
    )


async def _survey(store: Store, collection: str, file: PlanFile, forgotten: Callable[[str], bool]) -> None:
    """Notes the points that the sources do not list any more and that are to be `forgotten`, by URI."""
    after: str | None = None
    while True:
        points, after = await store.scroll(collection, after=after, limit=PAGE, fields=SURVEY_FIELDS)
        unseen = file.unseen([point.id for point in points])
        file.add_gone(
            (point.id, str(point.payload["content_hash"]), int(point.payload["bytes"]))
            for point in points
            if point.id in unseen and forgotten(str(point.payload["uri"]))
        )
        if after is None:
            return


def is_gone(uri: str, sources: Sequence[Source]) -> bool:
    """Whether a picture that the sources do not list was below one of them and is not there any more."""
    covering = [source for source in sources if source.covers(uri)]
    return bool(covering) and all(source.is_gone(uri) for source in covering)


def _find_moved(plan: Plan, reader: Reader) -> None:
    """Makes moves of added files whose bytes are those of a point that is gone."""
    for group in batched(plan.file.perhaps_moved(), PAGE):
        contents = reader.read([(task.uri, task.expected) for _, task in group])
        for (row, _), data in zip(group, contents, strict=True):
            if isinstance(data, bytes) and plan.file.moved(row, hashlib.sha256(data).hexdigest()):
                plan.added -= 1
                plan.moved += 1


class _Sampler:
    """Keeps some captions of a stream, each with the same chance (Vitter's algorithm R)."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self._offered = 0
        self._random = random.Random(0)

    def offer(self, tasks: Iterable[Task]) -> None:
        """Perhaps takes the first caption of each task."""
        for task in tasks:
            captions = json.loads(task.description)["captions"]
            if not captions:
                continue
            self._offered += 1
            if len(self.kept) < SAMPLED_CAPTIONS:
                self.kept.append(captions[0])
            elif (place := self._random.randrange(self._offered)) < SAMPLED_CAPTIONS:
                self.kept[place] = captions[0]


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Groups of at most `size`; `itertools.batched` of Python 3.12."""
    iterator = iter(items)
    while group := tuple(islice(iterator, size)):
        yield group
