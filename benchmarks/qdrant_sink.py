"""Points a second into a real Qdrant server: ray-qdrant's sink against this project's own writer.

`python -m benchmarks.qdrant_sink`: the same Ray Data blocks of random vectors go through `ray_qdrant.write_qdrant`
(gRPC) and through actors that call `QdrantStore.upsert`, each into a collection made by the store, with its payload
indexes and with indexing off. The time is that of the whole dataset, workers' start included. Then the same batches
go straight through one store, without Ray, by one task and by two. Needs the test programs
(`python -m tools.programs`).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext
from ray_qdrant import write_qdrant

from benchmarks.machine import describe
from search_core.model import resolve_model
from search_core.points import Batch, point_id
from search_core.qdrant import QdrantStore
from search_core.settings import StoreSettings
from tests.fixtures.qdrant_server import QdrantServer
from tests.fixtures.stores import payload_of, points_of, unit_vectors

ROWS_PER_BLOCK = 4096
WRITERS = (1, 2)
BATCH_SIZES = (64, 256, 1024)
WAYS = ("ray-qdrant", "store", "store without Ray")


class OwnWriter:
    """One `QdrantStore` an actor, as the index pipeline has it."""

    def __init__(self, settings: StoreSettings, collection: str) -> None:
        self._runner = asyncio.Runner()
        self._store = QdrantStore(settings)
        self._collection = collection

    def __call__(self, table: pa.Table) -> pa.Table:
        """Writes columns `id`, `vector` and the payload's; gives how many there were."""
        columns = table.drop_columns(["id", "vector"])
        vectors = table.column("vector").combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
        batch = Batch(table.column("id").to_pylist(), vectors, columns.to_pylist())
        self._runner.run(self._store.upsert(self._collection, batch))
        return pa.table({"written": [table.num_rows]})


def blocks(points: int, dim: int) -> list[pa.Table]:
    """Tables with the columns of a point: id, vector, and those of its payload."""
    vectors = unit_vectors(points, dim)
    found = []
    for first in range(0, points, ROWS_PER_BLOCK):
        payloads = [payload_of(number) for number in range(first, min(points, first + ROWS_PER_BLOCK))]
        table = pa.Table.from_pylist(payloads)
        rows = vectors[first : first + ROWS_PER_BLOCK]
        flat = pa.array(rows.reshape(-1))
        table = table.append_column("id", pa.array([point_id(payload["uri"]) for payload in payloads]))
        found.append(table.append_column("vector", pa.FixedSizeListArray.from_arrays(flat, dim)))
    return found


def write_by_sink(
    data: ray.data.Dataset, server: QdrantServer, collection: str, writers: int, size: int
) -> None:
    """ray-qdrant's sink, over gRPC."""
    write_qdrant(
        data,
        collection=collection,
        url=server.url,
        batch_size=size,
        concurrency=writers,
        client_kwargs={"prefer_grpc": True, "grpc_port": server.grpc_port, "check_compatibility": False},
    )


def write_by_store(
    data: ray.data.Dataset, settings: StoreSettings, collection: str, writers: int, size: int
) -> None:
    """This project's own writer."""
    data.map_batches(
        OwnWriter,
        fn_constructor_args=(settings, collection),
        batch_format="pyarrow",
        batch_size=size,
        compute=ActorPoolStrategy(size=writers),
        num_cpus=0.5,
    ).materialize()


async def write_directly(settings: StoreSettings, collection: str, batches: list[Batch], tasks: int) -> None:
    """One store in this process, so many upserts in flight."""
    store = QdrantStore(settings)
    waiting = iter(batches)

    async def writer() -> None:
        for batch in waiting:
            await store.upsert(collection, batch)

    await asyncio.gather(*(writer() for _ in range(tasks)))
    await store.close()


async def prepared(settings: StoreSettings, collection: str, dim: int) -> None:
    """Makes an empty collection."""
    store = QdrantStore(settings)
    await store.create(collection, resolve_model(f"fake/{dim}"))
    await store.close()


def measure(
    server: QdrantServer, folder: Path, points: int, dim: int, sizes: Sequence[int]
) -> list[dict[str, Any]]:
    """Points a second of both, for each number of writers and batch size."""
    settings = server.settings(folder)
    data = ray.data.from_arrow(blocks(points, dim)).materialize()
    whole = points_of(points, dim=dim)
    results = []
    for writers, size, way in itertools.product(WRITERS, sizes, WAYS):
        collection = "measured"
        server.clear()
        asyncio.run(prepared(settings, collection, dim))
        batches = [_slice(whole, first, size) for first in range(0, points, size)]
        started = time.perf_counter()
        if way == "store without Ray":
            asyncio.run(write_directly(settings, collection, batches, writers))
        elif way == "store":
            write_by_store(data, settings, collection, writers, size)
        else:
            write_by_sink(data, server, collection, writers, size)
        seconds = time.perf_counter() - started
        count = server.ask(f"/collections/{collection}/points/count", {"exact": True}, "POST")["count"]
        assert count == points, f"{way} wrote {count} of {points} points"
        results.append(
            {
                "way": way,
                "writers": writers,
                "batch_size": size,
                "seconds": round(seconds, 2),
                "points_per_s": round(points / seconds),
            }
        )
        sys.stderr.write(f"{results[-1]}\n")
    return results


def _slice(whole: Batch, first: int, size: int) -> Batch:
    rows = slice(first, first + size)
    return Batch(whole.ids[rows], whole.vectors[rows], whole.payloads[rows])


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch-size", type=int, nargs="*", default=BATCH_SIZES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, QdrantServer(Path(folder) / "server") as server:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        DataContext.get_current().enable_progress_bars = False
        try:
            results = measure(server, Path(folder), arguments.points, arguments.dim, arguments.batch_size)
        finally:
            ray.shutdown()
    json.dump(
        {"upsert": results, "points": arguments.points, "dim": arguments.dim, "machine": describe()},
        sys.stdout,
        indent=1,
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
