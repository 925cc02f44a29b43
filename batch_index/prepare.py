"""The first stage: pictures of the plan are read, looked up by their bytes, and decoded where those are new."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from batch_index import rows
from batch_index.coordinator import Claim, InFlight, Known
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
STAGE = "prepare"


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
        for start in range(0, len(tasks), self._batch_size):
            began = time.perf_counter()
            batch = self._batch(shard, tasks[start : start + self._batch_size])
            self._coordinator.count(STAGE, batch.num_rows, time.perf_counter() - began)
            yield batch

    def _batch(self, shard: int, given: Sequence[tuple[int, Task, bool]]) -> pa.Table:
        ids = [point_id(task.uri) for _, task, _ in given]
        moved = self._moved([task for _, task, done in given if task.origin and not done])
        found: list[_Picture | None] = []
        to_read: list[int] = []
        for index, (row, task, done) in enumerate(given):
            place = (shard, row, ids[index], task)
            known = moved.get(task.uri)
            if done:
                found.append(_Picture(*place, rows.DONE))
            elif known is not None:
                found.append(_Picture(*place, rows.REUSE, content_hash=task.content_hash, known=known))
            else:
                found.append(None)
                to_read.append(index)
        for index, picture in zip(
            to_read, self._read(shard, [(*given[i][:2], ids[i]) for i in to_read]), strict=True
        ):
            found[index] = picture
        with ThreadPoolExecutor(DECODE_THREADS) as pool:
            return _table(list(pool.map(self._finish, [picture for picture in found if picture is not None])))

    def _moved(self, tasks: Sequence[Task]) -> dict[str, Known]:
        """What the plan says is known already, where that is still so."""
        if not tasks:
            return {}
        asked = [task.origin for task in tasks], [task.content_hash for task in tasks]
        answers = self._coordinator.known_as(*asked)
        return {task.uri: known for task, known in zip(tasks, answers, strict=True) if known is not None}

    def _read(self, shard: int, wanted: Sequence[tuple[int, Task, str]]) -> list[_Picture]:
        """The bytes of pictures, or what is known of them."""
        read = list(self._reader.read([(task.uri, task.expected) for _, task, _ in wanted]))
        hashes = [hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else "" for data in read]
        whole = [index for index, digest in enumerate(hashes) if digest]
        claims: dict[int, Claim] = {}
        if whole:
            asked = [wanted[index][2] for index in whole], [hashes[index] for index in whole]
            claims = dict(zip(whole, self._coordinator.claim(*asked), strict=True))
        pictures = []
        for index, (row, task, id) in enumerate(wanted):
            data, digest, claim = read[index], hashes[index], claims.get(index)
            place = (shard, row, id, task)
            if isinstance(data, ImageError):
                pictures.append(_Picture(*place, rows.BROKEN, broken=data))
            elif isinstance(claim, InFlight):
                pictures.append(_Picture(*place, rows.DEFERRED))
            elif claim is not None:
                pictures.append(_Picture(*place, rows.REUSE, data, digest, claim))
            else:
                pictures.append(_Picture(*place, rows.EMBED, data, digest))
        return pictures

    def _finish(self, picture: _Picture) -> dict[str, Any]:
        """The columns of a picture."""
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
        return {
            "shard": picture.shard,
            "row": picture.row,
            "id": picture.id,
            "uri": task.uri,
            "version": task.version,
            "action": _action(picture),
            "origin": task.origin
            if task.action == "moved" and picture.known is not None and not picture.data
            else "",
            "outcome": outcome,
            "reason": broken.reason if broken else "",
            "error": broken.message if broken else "",
            "payload": json.dumps(payload) if payload else "",
            "pixels": pixels,
            "vector": picture.known.vector.tobytes() if picture.known is not None else b"",
        }


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


def _table(records: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(records), schema=rows.PREPARED)
