"""The plan: what a run has to do, from what the sources hold and what the collection holds.

Nothing is decoded and no model is loaded. A file is read only to hash it, and only where its size says that its
bytes may be known already: identical bytes are never embedded twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, TypeVar

from batch_index.captions import Captions, Description
from batch_index.quarantine import Quarantine
from batch_index.sources import Source, SourceItem, list_files
from search_core.addresses import local_path, split_inside
from search_core.filters import AnyOf
from search_core.payload import image_payload
from search_core.points import Payload, point_id
from search_core.store import Store

PAGE = 1_000
HASH_THREADS = 8
DESCRIPTION_FIELDS = ("uri", "bytes", "content_hash")

T = TypeVar("T")
Action = Literal["added", "updated"]
Reuse = Literal["added", "updated", "moved"]


@dataclass(frozen=True)
class Embed:
    """A file to read, decode, embed and write."""

    file: SourceItem
    description: Description
    action: Action


@dataclass(frozen=True)
class Copy:
    """A point to write with a vector that the collection has, or will have once `origin` is embedded."""

    file: SourceItem
    description: Description
    action: Reuse
    origin: str
    """Id of the point with the same bytes."""
    content_hash: str


@dataclass
class Plan:
    """What to do. Every file of the sources is in exactly one of the first four, or quarantined before."""

    embed: list[Embed] = field(default_factory=list)
    copy: list[Copy] = field(default_factory=list)
    unchanged: int = 0
    quarantined: int = 0
    delete: list[str] = field(default_factory=list)
    """Ids of points whose file is gone and did not move, if deleting them was asked for."""

    @property
    def seen(self) -> int:
        """Number of files in the sources."""
        return len(self.embed) + len(self.copy) + self.unchanged + self.quarantined

    def counts(self) -> dict[str, int]:
        """How many pictures would be added, updated, moved and deleted."""
        actions = [task.action for task in self.embed] + [copy.action for copy in self.copy]
        return {
            "added": actions.count("added"),
            "updated": actions.count("updated"),
            "moved": actions.count("moved"),
            "deleted": len(self.delete),
        }

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.embed or self.copy or self.delete)


@dataclass
class _Stored:
    """What the collection holds, as far as the plan needs it at once."""

    sizes: set[int] = field(default_factory=set)
    gone: dict[str, list[str]] = field(default_factory=dict)
    """Content hash to ids of points below the sources whose file is gone."""


async def make_plan(
    store: Store,
    collection: str | None,
    sources: Sequence[Source],
    captions: Captions,
    quarantine: Quarantine,
    *,
    delete_missing: bool,
    retry_quarantined: bool = False,
) -> Plan:
    """Compares sources and collection (None: one that does not exist yet).

    Raises:
        SourceError: the sources hold no pictures at all.
    """
    plan = Plan()
    stored = await _survey(store, collection, sources)
    candidates: list[tuple[SourceItem, Description, Action]] = []
    for files in batched(list_files(sources), PAGE):
        known = await _known(store, collection, files)
        for file in files:
            if not retry_quarantined and quarantine.holds(file.uri, file.version):
                plan.quarantined += 1
                continue
            description = captions.of(file)
            before = known.get(point_id(file.uri))
            if before is None:
                candidates.append((file, description, "added"))
            elif before.get("source_version") != file.version:
                candidates.append((file, description, "updated"))
            elif _described(before, file, description) != before:
                plan.copy.append(
                    Copy(file, description, "updated", point_id(file.uri), str(before["content_hash"]))
                )
            else:
                plan.unchanged += 1
    await _resolve(plan, candidates, stored, store, collection)
    if delete_missing:
        moved = {copy.origin for copy in plan.copy if copy.action == "moved"}
        plan.delete = [id for ids in stored.gone.values() for id in ids if id not in moved]
    return plan


async def _survey(store: Store, collection: str | None, sources: Sequence[Source]) -> _Stored:
    stored = _Stored()
    async for payload in _payloads(store, collection):
        uri = str(payload["uri"])
        stored.sizes.add(int(payload["bytes"]))
        if is_gone(uri, sources):
            stored.gone.setdefault(str(payload["content_hash"]), []).append(point_id(uri))
    return stored


async def _payloads(store: Store, collection: str | None) -> AsyncIterator[Payload]:
    after: str | None = None
    while collection is not None:
        points, after = await store.scroll(collection, after=after, limit=PAGE, fields=DESCRIPTION_FIELDS)
        for point in points:
            yield point.payload
        if after is None:
            return


def is_gone(uri: str, sources: Sequence[Source]) -> bool:
    """Whether a picture below the sources has no file any more."""
    covering = [source for source in sources if source.covers(uri)]
    return bool(covering) and all(source.is_gone(uri) for source in covering)


async def _known(store: Store, collection: str | None, files: Iterable[SourceItem]) -> dict[str, Payload]:
    if collection is None:
        return {}
    points = await store.retrieve(collection, [point_id(file.uri) for file in files])
    return {point.id: point.payload for point in points}


def _described(before: Payload, file: SourceItem, description: Description) -> Payload:
    """The payload that the file would have now if its picture is the same."""
    return image_payload(
        file.uri,
        width=before["width"],
        height=before["height"],
        format=before["format"],
        size_bytes=file.size or before["bytes"],  # a row's size is known by reading it only
        content_hash=before["content_hash"],
        source_version=file.version,
        modified=file.modified,
        captions=description.captions,
        extra=description.columns,
    )


async def _resolve(
    plan: Plan,
    candidates: Sequence[tuple[SourceItem, Description, Action]],
    stored: _Stored,
    store: Store,
    collection: str | None,
) -> None:
    """Sends each candidate to `embed`, or to `copy` where its bytes are known."""
    hashes = dict(_hashes([file for file, _, _ in candidates], stored.sizes))
    at_hand = await _ids_by_hash(store, collection, set(hashes.values()))
    gone = {digest: list(ids) for digest, ids in stored.gone.items()}
    for file, description, action in candidates:
        digest = hashes.get(file.uri)
        if digest is None:
            plan.embed.append(Embed(file, description, action))
        elif action == "added" and gone.get(digest):
            plan.copy.append(Copy(file, description, "moved", gone[digest].pop(0), digest))
        elif origin := at_hand.get(digest, ""):
            plan.copy.append(Copy(file, description, action, origin, digest))
        else:
            at_hand[digest] = point_id(file.uri)
            plan.embed.append(Embed(file, description, action))


def _hashes(files: Sequence[SourceItem], stored_sizes: set[int]) -> Iterator[tuple[str, str]]:
    """URI and SHA-256 of the files whose size another file or point has too."""
    counts: dict[int, int] = {}
    for file in files:
        counts[file.size] = counts.get(file.size, 0) + 1
    alike = [file for file in files if file.size and (counts[file.size] > 1 or file.size in stored_sizes)]
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        for file, digest in zip(alike, pool.map(lambda one: _file_hash(one.uri), alike), strict=True):
            if digest is not None:
                yield file.uri, digest


def _file_hash(uri: str) -> str | None:
    path = local_path(uri)
    if path is None or split_inside(uri) is not None:
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None  # the read stage says what is wrong with it


async def _ids_by_hash(store: Store, collection: str | None, digests: set[str]) -> dict[str, str]:
    """Content hash to the id of a point with those bytes."""
    found: dict[str, str] = {}
    if collection is None:
        return found
    for some in batched(sorted(digests), PAGE):
        after: str | None = None
        while True:
            points, after = await store.scroll(
                collection,
                after=after,
                limit=PAGE,
                where=(AnyOf("content_hash", some),),
                fields=("content_hash",),
            )
            found.update((str(point.payload["content_hash"]), point.id) for point in points)
            if after is None:
                break
    return found


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Groups of at most `size`; `itertools.batched` of Python 3.12."""
    iterator = iter(items)
    while group := tuple(islice(iterator, size)):
        yield group
