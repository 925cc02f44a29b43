"""The plan as a data source of Ray's: a read task prepares a shard."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from batch_index.rows import PACKED, pack


class PlanSource(Datasource):
    """Shards 0 to `shards`, each prepared by `prepare(shard)` where Ray runs the task: packed tables of `PREPARED`.

    One operator, with the resources that it is given: `ray.data.range` would claim a whole CPU to name a shard.
    """

    def __init__(self, prepare: Callable[[int], Iterator[pa.Table]], shards: int) -> None:
        self._prepare = prepare
        self._shards = shards

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known before the pictures are read."""
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """A task for each shard, however many Ray would like."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [
            ReadTask(functools.partial(_read, self._prepare, shard), unknown, PACKED)
            for shard in range(self._shards)
        ]


def _read(prepare: Callable[[int], Iterator[pa.Table]], shard: int) -> Iterator[pa.Table]:
    return map(pack, prepare(shard))
