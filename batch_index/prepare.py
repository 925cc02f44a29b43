"""The first stage: pictures of the plan are read, looked up by their bytes, and decoded where those are new."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from batch_index import rows
from batch_index.coordinator import Care, Claim, InFlight, Known
from batch_index.coordinator_client import RemoteCoordinator
from batch_index.plan_file import Task
from batch_index.sources import Reader
from search_core.errors import ImageError
from search_core.image import decode_rgb
from search_core.model import Preprocess
from search_core.payload import image_payload
from search_core.points import point_id
from search_core.preprocess import to_pixels
from search_core.settings import ImageSettings, SourceSettings

DECODE_THREADS = 4
THREADS_FROM_BYTES = 1_000_000
"""Of one batch."""
STAGE = "prepare"
CRASHED = ImageError("crashed", "a process has ended each time it was decoded")


@dataclass(frozen=True)
class _Picture:
    """A task of the plan, with what has been found out about it."""

    shard: int
    row: int
    id: str
    task: Task
    outcome: str
    data: bytes = b""
    content_hash: str = ""
    known: Known | None = None
    broken: ImageError | None = None


class Prepare:
    """A shard's number in, its pictures out, `batch_size` at a time; see `batch_index.rows` for the columns.

    Drops nothing: a broken picture travels as a row with a reason.
    """

    def __init__(
        self,
        coordinator: RemoteCoordinator,
        preprocess: Preprocess,
        source: SourceSettings,
        limits: ImageSettings,
        batch_size: int,
    ) -> None:
        self._coordinator = coordinator
        self._preprocess = preprocess
        self._reader = Reader(source, limits)
        self._limits = limits
        self._batch_size = batch_size

    def __call__(self, shard: int) -> Iterator[pa.Table]:
        """Prepares a shard, once the coordinator has room for it."""
        tasks = self._coordinator.shard(shard)
        care = self._coordinator.care(shard)
        moved = self._moved([task for _, task, done in tasks if task.origin and not done])
        data = self._reader.read(
            [
                (task.uri, task.expected)
                for row, task, done in tasks
                if not done and row not in care.crashed and task.uri not in moved
            ]
        )
        with ThreadPoolExecutor(DECODE_THREADS) as pool:
            for start in range(0, len(tasks), self._batch_size):
                began = time.perf_counter()
                found = self._found(shard, tasks[start : start + self._batch_size], care, moved, data)
                batch = _table(self._alone(found) if care.alone else self._finished(pool, found))
                self._coordinator.count(STAGE, batch.num_rows, time.perf_counter() - began)
                yield batch

    def _found(
        self,
        shard: int,
        given: Sequence[tuple[int, Task, bool]],
        care: Care,
        moved: Mapping[str, Known],
        data: Iterator[bytes | ImageError],
    ) -> list[_Picture]:
        """What is known of pictures before they are decoded; takes the bytes of those that are read from `data`."""
        places = [(shard, row, point_id(task.uri), task) for row, task, _ in given]
        read = [
            None if done or task.uri in moved else CRASHED if row in care.crashed else next(data)
            for row, task, done in given
        ]
        hashes = [hashlib.sha256(one).hexdigest() if isinstance(one, bytes) else "" for one in read]
        whole = [index for index, digest in enumerate(hashes) if digest]
        claims: dict[int, Claim] = {}
        if whole:
            asked = [places[index][2] for index in whole], [hashes[index] for index in whole]
            claims = dict(zip(whole, self._coordinator.claim(*asked), strict=True))
        pictures = []
        for index, (_, task, done) in enumerate(given):
            place, one, digest, claim = places[index], read[index], hashes[index], claims.get(index)
            if done:
                pictures.append(_Picture(*place, rows.DONE))
            elif one is None:
                known, digest = moved[task.uri], task.content_hash
                pictures.append(_Picture(*place, rows.REUSE, content_hash=digest, known=known))
            elif isinstance(one, ImageError):
                pictures.append(_Picture(*place, rows.BROKEN, broken=one))
            elif isinstance(claim, InFlight):
                pictures.append(_Picture(*place, rows.DEFERRED))
            else:
                outcome = rows.EMBED if claim is None else rows.REUSE
                pictures.append(_Picture(*place, outcome, one, digest, claim))
        return pictures

    def _finished(self, pool: ThreadPoolExecutor, pictures: Sequence[_Picture]) -> list[tuple[Any, ...]]:
        """The rows of pictures. Small ones are decoded faster than they are handed to threads."""
        if sum(len(picture.data) for picture in pictures) < THREADS_FROM_BYTES:
            return [self._finish(picture) for picture in pictures]
        return list(pool.map(self._finish, pictures))

    def _alone(self, pictures: Sequence[_Picture]) -> list[tuple[Any, ...]]:
        """The same, one by one: if this process ends over a picture, the coordinator knows which it was."""
        records = []
        for picture in pictures:
            self._coordinator.begin(picture.shard, picture.row)
            records.append(self._finish(picture))
        if pictures:
            self._coordinator.begin(pictures[-1].shard, None)
        return records

    def _moved(self, tasks: Sequence[Task]) -> dict[str, Known]:
        """What the plan says is known already, where that is still so."""
        if not tasks:
            return {}
        asked = [task.origin for task in tasks], [task.content_hash for task in tasks]
        answers = self._coordinator.known_as(*asked)
        return {task.uri: known for task, known in zip(tasks, answers, strict=True) if known is not None}

    def _finish(self, picture: _Picture) -> tuple[Any, ...]:
        """The columns of a picture, as `rows.PREPARED` has them."""
        pixels = b""
        payload: dict[str, Any] = {}
        broken = picture.broken
        outcome = picture.outcome
        if picture.known is not None:
            known = picture.known
            payload = _payload(picture, known.width, known.height, known.format, known.bytes)
        elif outcome == rows.EMBED:
            try:
                image = decode_rgb(picture.data, self._limits, min_side=max(self._preprocess.size))
                pixels = to_pixels(image.rgb, self._preprocess).tobytes()
                payload = _payload(picture, image.width, image.height, image.format, len(picture.data))
            except ImageError as error:
                broken, outcome = error, rows.BROKEN
        task = picture.task
        kept = task.action == "moved" and picture.known is not None and not picture.data
        return (
            picture.shard,
            picture.row,
            picture.id,
            task.uri,
            task.version,
            _action(picture),
            task.origin if kept else "",
            outcome,
            broken.reason if broken else "",
            broken.message if broken else "",
            json.dumps(payload) if payload else "",
            pixels,
            picture.known.vector.tobytes() if picture.known is not None else b"",
        )


def _action(picture: _Picture) -> str:
    """A move whose origin is not what the plan saw any more is an addition."""
    moved_in_vain = picture.task.action == "moved" and (picture.known is None or bool(picture.data))
    return "added" if moved_in_vain else picture.task.action


def _payload(picture: _Picture, width: int, height: int, format: str, size: int) -> dict[str, Any]:  # noqa: A002 - the field's name
    task = picture.task
    description = json.loads(task.description)
    return image_payload(
        task.uri,
        width=width,
        height=height,
        format=format,
        size_bytes=size,
        content_hash=picture.content_hash,
        source_version=task.version,
        modified=datetime.fromisoformat(task.modified) if task.modified else None,
        captions=description["captions"],
        extra=description["columns"],
    )


def _table(records: Sequence[tuple[Any, ...]]) -> pa.Table:
    return pa.Table.from_arrays(
        [
            pa.array(column, field.type)
            for column, field in zip(zip(*records, strict=True), rows.PREPARED, strict=True)
        ],
        schema=rows.PREPARED,
    )
