"""What a vector costs a real Qdrant server: memory, disk, and processor seconds to load, to index and to search it.

`python -m benchmarks.qdrant_capacity [--points N] [--dim D] [--quantization none int8 ...]`: for each kind of
quantization and number of points, a collection as an index run makes it (payload indexes, HNSW after the load) is
loaded in batches of an index run, indexed, and searched after the server was started anew. Processor seconds are those
of the server's process, so other programs on the machine hardly move them. Memory is the server's resident memory less
that of an empty one (part of the rest is the same for any number of points: compare two); disk is what the collection's folder occupies, its write-ahead log apart. `peak` is the most while
it was loaded and indexed. Needs the test programs (`python -m tools.programs test`).

The vectors are unit vectors near a subspace of `LATENT` dimensions, as embeddings are; uniformly random ones have no
near neighbours, and no graph finds them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.machine import describe
from search_core.model import resolve_model
from search_core.points import Batch, Vectors, point_id
from search_core.qdrant import QdrantStore
from search_core.settings import QdrantSettings
from tests.fixtures.qdrant_server import QdrantServer
from tests.fixtures.stores import payload_of

LATENT = 32
NOISE = 0.02
SEED = 7
BATCH = 256
WRITERS = 2
QUERIES = 1000
RECALL_QUERIES = 50
LIMIT = 24
"""Hits of a query, as the page asks for them."""
COLLECTION = "measured"
WAL = "wal"
SAMPLE_S = 0.1
STALL_S = 3600
"""A segment takes long where others use the cores."""
BLOCK_BYTES = 512
"""Of `st_blocks`."""
CAPTION = "a brown dog runs along the beach with a stick in its mouth"


def embeddings(count: int, dim: int, seed: int) -> Vectors:
    """float32 [count, dim], L2 norm 1; of the same subspace for every seed."""
    basis = np.random.default_rng(SEED).normal(size=(LATENT, dim)).astype(np.float32) / np.sqrt(LATENT * dim)
    rng = np.random.default_rng([SEED, seed])
    vectors: Vectors = rng.normal(size=(count, LATENT)).astype(np.float32) @ basis
    vectors += NOISE / np.sqrt(dim) * rng.normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def batches(points: int, dim: int) -> Iterator[Batch]:
    """The points in batches of an index run."""
    for first in range(0, points, BATCH):
        count = min(BATCH, points - first)
        payloads = [payload_of(number, caption=CAPTION) for number in range(first, first + count)]
        ids = [point_id(payload["uri"]) for payload in payloads]
        yield Batch(ids, embeddings(count, dim, first + 1), payloads)


@dataclass(frozen=True)
class Memory:
    """Resident bytes of a process: its own, and pages of mapped files, which hold vectors and graph too."""

    anonymous: int
    mapped: int

    @property
    def all(self) -> int:
        """Both."""
        return self.anonymous + self.mapped


class Meter:
    """Resident memory, processor seconds and disk of a running server."""

    def __init__(self, server: QdrantServer, folder: Path) -> None:
        self._process = psutil.Process(server.pid)
        self._folder = folder / "storage" / "collections" / COLLECTION

    def memory(self) -> Memory:
        """Resident bytes."""
        pairs = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8").split("\n")
        found = dict(line.split(":", 1) for line in pairs if ":" in line)
        return Memory(*(1024 * int(found[name].split()[0]) for name in ("RssAnon", "RssFile")))

    def processor_s(self) -> float:
        """Processor seconds so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def disk(self) -> int:
        """Bytes that the collection occupies, but for the write-ahead log, whose size is set and not by points."""
        found = 0
        for folder, _, names in os.walk(
            self._folder
        ):  # passes over folders that the server removes meanwhile
            for name in names if WAL not in Path(folder).parts else ():
                with suppress(FileNotFoundError):
                    found += (Path(folder) / name).stat().st_blocks * BLOCK_BYTES
        return found

    @contextmanager
    def watching(self, peaks: dict[str, int]) -> Iterator[None]:
        """Notes the most memory and disk while the context lasts."""
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(SAMPLE_S):
                peaks["memory"] = max(peaks["memory"], self.memory().all)
                peaks["disk"] = max(peaks["disk"], self.disk())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


async def load(store: QdrantStore, points: int, dim: int) -> float:
    """Writes all points, several batches at once; gives the seconds."""
    await store.create(COLLECTION, resolve_model(f"fake/{dim}"), bulk=True)
    waiting = batches(points, dim)
    began = time.perf_counter()

    async def writer() -> None:
        for batch in waiting:
            await store.upsert(COLLECTION, batch)

    await asyncio.gather(*(writer() for _ in range(WRITERS)))
    return time.perf_counter() - began


async def search(store: QdrantStore, dim: int, meter: Meter) -> dict[str, float]:
    """Processor and elapsed milliseconds of one query, and recall at 10 against an exact search."""
    queries = embeddings(QUERIES, dim, 0)
    for query in queries:  # what is read from disk is read now
        await store.query(COLLECTION, query, limit=LIMIT)
    before, latencies = meter.processor_s(), []
    for query in queries:
        began = time.perf_counter()
        await store.query(COLLECTION, query, limit=LIMIT)
        latencies.append(time.perf_counter() - began)
    spent = meter.processor_s() - before
    found = 0
    for query in queries[:RECALL_QUERIES]:
        near = {hit.id for hit in await store.query(COLLECTION, query, limit=10)}
        exact = await store.query(COLLECTION, query, limit=10, exact=True)
        found += sum(hit.id in near for hit in exact)
    return {
        "processor_ms": round(1000 * spent / QUERIES, 3),
        "p50_ms": round(1000 * float(np.median(latencies)), 2),
        "recall_at_10": round(found / (10 * RECALL_QUERIES), 4),
    }


async def measure(folder: Path, points: int, dim: int, settings: QdrantSettings) -> dict[str, Any]:
    """One collection from its making to its searches."""
    server = QdrantServer(folder)
    peaks = {"memory": 0, "disk": 0}
    with server:
        meter = Meter(server, folder)
        empty = meter.memory()
        store = QdrantStore(server.settings(folder, qdrant=settings))
        with meter.watching(peaks):
            began = meter.processor_s()
            loaded_s = await load(store, points, dim)
            loaded = meter.processor_s()
            started = time.perf_counter()
            await store.optimize(COLLECTION)
            hnsw_s, hnsw = time.perf_counter() - started, meter.processor_s()
        await store.close()
        server.stop()
        server.start()
        server.wait()
        meter = Meter(server, folder)
        store = QdrantStore(server.settings(folder, qdrant=settings))
        query = await search(store, dim, meter)
        info = server.ask(f"/collections/{COLLECTION}")
        steady, disk = meter.memory(), meter.disk()
        await store.close()
    return {
        "points": points,
        "dim": dim,
        "quantization": settings.quantization,
        "segments": info["segments_count"],
        "indexed": info["indexed_vectors_count"],
        "memory_bytes_per_point": round((steady.all - empty.all) / points),
        "anonymous_bytes_per_point": round((steady.anonymous - empty.anonymous) / points),
        "disk_bytes_per_point": round(disk / points),
        "peak_memory_bytes_per_point": round((peaks["memory"] - empty.all) / points),
        "peak_disk_bytes_per_point": round(peaks["disk"] / points),
        "load_points_per_s": round(points / loaded_s),
        "load_processor_us_per_point": round(1e6 * (loaded - began) / points, 1),
        "hnsw_s": round(hnsw_s, 1),
        "hnsw_processor_us_per_point": round(1e6 * (hnsw - loaded) / points),
        "query": {"ef": settings.hnsw_ef, "limit": LIMIT, **query},
    }


def run(points: Sequence[int], dim: int, kinds: Sequence[str]) -> list[dict[str, Any]]:
    """All combinations, each on a server of its own."""
    results = []
    for kind in kinds:
        for count in points:
            settings = QdrantSettings.model_validate({"quantization": kind, "stall_timeout_s": STALL_S})
            with tempfile.TemporaryDirectory() as folder:
                results.append(asyncio.run(measure(Path(folder), count, dim, settings)))
            sys.stderr.write(f"{results[-1]}\n")
    return results


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="+", default=[15_000, 60_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--quantization", nargs="+", default=["none", "int8"])
    options = parser.parse_args()
    results = run(options.points, options.dim, options.quantization)
    json.dump({"collections": results, "machine": describe()}, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
