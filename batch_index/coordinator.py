"""The one actor of a run that its workers ask: which pictures come next, and whose bytes are known already.

It bounds the work in flight: a shard is handed out once few enough pictures are handed out and not acknowledged.
Whatever is asked twice, as Ray does after a failure, is answered as the first time, but for pictures that are
acknowledged by then: those are marked as done and are not embedded again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from batch_index.metrics import IndexMetrics
from batch_index.plan_file import PlanFile, Task, slices
from batch_index.progress import Progress, StageCount
from search_core.errors import RunError
from search_core.filters import AnyOf
from search_core.points import Payload, Point, Vectors
from search_core.store import Store

CRASHES = 2
"""So many processes may end over a shard before the next one is to find out which of its pictures it is."""
MOST_TIMES = 12
"""A shard is handed out, but for the pictures that this found; and encoders start again while no shard is completed. Ray
Data itself knows no bound."""
ENDLESS = "a process of this run has ended again and again, and it was no picture: is there memory enough?"
KNOWN_FIELDS = ("width", "height", "format", "bytes")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a picture's bytes: their vector, float32 [dim], and the fields of the payload that follow."""

    vector: Vectors
    width: int
    height: int
    format: str
    bytes: int


@dataclass(frozen=True, slots=True)
class InFlight:
    """Another picture of the run has the same bytes and is being embedded."""


Claim = Known | InFlight | None
"""None: the bytes are new, and whoever asked is to embed them."""


@dataclass(frozen=True, slots=True)
class Care:
    """`alone`: decode one picture at a time and say which; `crashed`: rows whose decoding has ended a process."""

    alone: bool = False
    crashed: frozenset[int] = frozenset()


@dataclass
class _OpenShard:
    """A shard that is handed out: how many rows it has, and which are acknowledged."""

    rows: int
    done: set[int] = field(default_factory=set)
    times: int = 0
    """How often it was handed out."""
    begun: int | None = None
    """The row that is being decoded alone."""
    crashed: set[int] = field(default_factory=set)


class Coordinator:
    """The actor's body. `fresh`: the collection was empty, so that only this run can know any bytes."""

    def __init__(
        self,
        plan: Path,
        open_store: Callable[[], Store],
        collection: str,
        *,
        fresh: bool,
        max_in_flight: int,
    ) -> None:
        self._plan = PlanFile.open(plan)
        self._plan.database.executescript(
            """
            CREATE TABLE IF NOT EXISTS claim (content_hash TEXT PRIMARY KEY, id TEXT) WITHOUT ROWID;
            CREATE TABLE IF NOT EXISTS retired (content_hash TEXT PRIMARY KEY, vector BLOB, picture TEXT) WITHOUT ROWID;
            CREATE TABLE IF NOT EXISTS deferred (row INTEGER PRIMARY KEY);
            """
        )
        self._open_store = open_store
        self._store: Store | None = None
        self._collection = collection
        self._fresh = fresh
        self._may_wait = True
        self._max_in_flight = max_in_flight
        self._changed = asyncio.Condition()
        self._progress = Progress()
        self._metrics = IndexMetrics(collection)
        self._open_shards: dict[int, _OpenShard] = {}
        self._complete: set[int] = set()
        self._restarts = 0

    async def shard(self, number: int) -> list[tuple[int, Task, bool]]:
        """The shard's rows and tasks, and whether each is done already; waits until there is room for them.

        Raises:
            RunError: too many processes have ended over it.
        """
        tasks = self._plan.shard(number)
        async with self._changed:
            await self._changed.wait_for(lambda: self._is_handed_out(number) or self._has_room(len(tasks)))
            if not self._is_handed_out(number):
                self._open_shards[number] = _OpenShard(len(tasks))
                self._set_in_flight(self._progress.in_flight + len(tasks))
        shard = self._open_shards.get(number)
        if shard is not None:
            shard.times += 1
            if shard.begun is not None:
                shard.crashed.add(shard.begun)
                shard.begun = None
            if shard.times - len(shard.crashed) > MOST_TIMES:
                raise RunError(ENDLESS)
        return [(row, task, shard is None or row in shard.done) for row, task in tasks]

    async def care(self, number: int) -> Care:
        """How the shard that was just handed out is to be worked on, by what became of those who had it before."""
        shard = self._open_shards.get(number)
        return Care(shard.times > CRASHES, frozenset(shard.crashed)) if shard is not None else Care()

    async def begin(self, number: int, row: int | None) -> None:
        """The row of a shard that is about to be decoded alone; None once that has gone well."""
        if (shard := self._open_shards.get(number)) is not None:
            shard.begun = row

    async def acknowledge(self, number: int, rows: Sequence[int], deferred: Sequence[int]) -> None:
        """Rows of a shard that are written, broken or put off."""
        shard = self._open_shards.get(number)
        if shard is None:
            return
        self._plan.database.executemany(
            "INSERT OR IGNORE INTO deferred VALUES (?)", ((row,) for row in deferred)
        )
        async with self._changed:
            before = len(shard.done)
            shard.done.update(rows)
            self._set_in_flight(self._progress.in_flight - (len(shard.done) - before))
            if len(shard.done) == shard.rows:
                del self._open_shards[number]
                self._complete.add(number)
                self._restarts = 0
            self._changed.notify_all()

    async def start_again(self) -> None:
        """An encoder takes the place of one whose process has ended.

        Raises:
            RunError: too many have.
        """
        self._restarts += 1
        if self._restarts > MOST_TIMES:
            raise RunError(ENDLESS)

    async def claim(self, ids: Sequence[str], hashes: Sequence[str]) -> list[Claim]:
        """For each picture: whether its bytes are new, known, or in flight already."""
        mine = self._are_first(ids, hashes)
        asked = [digest for digest, first in zip(hashes, mine, strict=True) if not (first and self._fresh)]
        known = await self._known(asked)
        return [
            known.get(digest) or (None if first else InFlight())
            for digest, first in zip(hashes, mine, strict=True)
        ]

    async def known_as(self, origins: Sequence[str], hashes: Sequence[str]) -> list[Known | None]:
        """The vectors of points that the plan named as origins, where they still have those contents."""
        store = self._opened()
        points = await store.retrieve(self._collection, list(dict.fromkeys(origins)), with_vectors=True)
        found = {point.id: point for point in points}
        return [
            _known(found[origin], digest) if origin in found else None
            for origin, digest in zip(origins, hashes, strict=True)
        ]

    async def retire(self, ids: Sequence[str]) -> None:
        """Keeps the vectors of points that are about to get other contents: a later picture may have theirs."""
        points = await self._opened().retrieve(self._collection, ids, with_vectors=True)
        self._plan.database.executemany(
            "INSERT OR IGNORE INTO retired VALUES (?, ?, ?)",
            [
                (
                    str(point.payload["content_hash"]),
                    point.vector.astype(np.float32).tobytes(),
                    json.dumps({name: point.payload[name] for name in KNOWN_FIELDS}),
                )
                for point in points
                if point.vector is not None
            ],
        )

    async def second_pass(self) -> int:
        """Reduces the plan to what was put off; gives the number of shards. Nothing is put off any more."""
        rows = [row for (row,) in self._plan.database.execute("SELECT row FROM deferred ORDER BY row")]
        shards = self._plan.keep_only(rows, self._max_in_flight)
        self._plan.database.execute("DELETE FROM deferred")
        self._fresh = self._may_wait = False
        self._open_shards.clear()
        self._complete.clear()
        self._set_in_flight(0)
        return shards

    async def count(self, stage: str, pictures: int, seconds: float) -> None:
        """Adds to what a stage has done."""
        counted = self._progress.stages.setdefault(stage, StageCount())
        counted.pictures += pictures
        counted.seconds += seconds
        self._metrics.stage(stage, pictures, seconds)

    async def progress(self) -> Progress:
        """How far the run is."""
        return self._progress

    def _set_in_flight(self, pictures: int) -> None:
        self._progress.in_flight = pictures
        self._metrics.in_flight(pictures)

    def _is_handed_out(self, number: int) -> bool:
        return number in self._open_shards or number in self._complete

    def _has_room(self, pictures: int) -> bool:
        in_flight = self._progress.in_flight
        return in_flight == 0 or in_flight + pictures <= self._max_in_flight

    def _are_first(self, ids: Sequence[str], hashes: Sequence[str]) -> list[bool]:
        """For each picture: whether it is the one of the run that is embedded for its bytes."""
        if not self._may_wait:
            return [True] * len(ids)
        database = self._plan.database
        with self._plan.writing():
            database.executemany("INSERT OR IGNORE INTO claim VALUES (?, ?)", zip(hashes, ids, strict=True))
        owners: dict[str, str] = {}
        for some in slices(hashes):
            marks = ",".join("?" * len(some))
            owners.update(
                database.execute(
                    f"SELECT content_hash, id FROM claim WHERE content_hash IN ({marks})", some
                ).fetchall()
            )
        return [owners[digest] == id for id, digest in zip(ids, hashes, strict=True)]

    async def _known(self, hashes: Sequence[str]) -> dict[str, Known]:
        """Contents that the collection has, or had before this run replaced them: asked for in this order, since
        what is replaced meanwhile was retired before.
        """
        if not hashes:
            return {}
        found = await self._stored(hashes)
        missing = [digest for digest in hashes if digest not in found]
        for digest in missing:
            row = self._plan.database.execute(
                "SELECT vector, picture FROM retired WHERE content_hash = ?", (digest,)
            ).fetchone()
            if row is not None:
                found[digest] = Known(np.frombuffer(row[0], dtype=np.float32), **json.loads(row[1]))
        return found

    async def _stored(self, hashes: Sequence[str]) -> dict[str, Known]:
        found: dict[str, Known] = {}
        after: str | None = None
        where = (AnyOf("content_hash", tuple(dict.fromkeys(hashes))),)
        while True:
            points, after = await self._opened().scroll(
                self._collection, after=after, limit=len(hashes), where=where, with_vectors=True
            )
            for point in points:
                known = _known(point, str(point.payload["content_hash"]))
                if known is not None:
                    found[str(point.payload["content_hash"])] = known
            if after is None:
                return found

    def _opened(self) -> Store:
        if self._store is None:
            self._store = self._open_store()
        return self._store


def _known(point: Point, digest: str) -> Known | None:
    payload: Payload = point.payload
    if point.vector is None or payload.get("content_hash") != digest:
        return None
    return Known(point.vector, **{name: payload[name] for name in KNOWN_FIELDS})
