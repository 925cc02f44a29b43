"""How long each stage of the index pipeline takes for a batch: what `benchmarks.pipeline_simulation` is fed with.

The real functions run on pictures of `samples/`, made 500x375 JPEGs, with the 224x224 pixels of ViT-B/32, and write
512 numbers a picture to a real Qdrant server. Processor seconds are measured, which other programs on the machine hardly
move, but for a round trip to the coordinator, which is elapsed time. What grows with the batch is measured at two sizes
and split into a part for each batch and one for each picture. There is no GPU here: the time of the model is no result.
"""

from __future__ import annotations

import asyncio
import io
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pyarrow as pa
from PIL import Image, ImageOps

from batch_index import rows
from batch_index.coordinator import Care
from batch_index.coordinator_client import RemoteCoordinator
from batch_index.embed import EmbedAndWrite
from batch_index.plan_file import Task
from batch_index.prepare import Prepare
from cluster.capacity.measured import Cost
from search_core.model import ModelSpec, resolve_model
from search_core.qdrant import QdrantStore
from search_core.settings import ImageSettings, ModelSettings, SourceSettings
from tests.fixtures.qdrant_server import QdrantServer

SAMPLES = Path(__file__).resolve().parent.parent / "samples" / "images"
PICTURE = (500, 375)
QUALITY = 90
DIM = 512
SIDE = 224
PICTURES = 1024
BATCHES = (64, 256)
COLLECTION = "measured"


def line(sizes: Sequence[int], seconds: Sequence[float]) -> Cost:
    """The cost of which batches of these two sizes take these seconds."""
    slope = max(0.0, (seconds[1] - seconds[0]) / (sizes[1] - sizes[0]))
    return Cost(max(0.0, seconds[0] - slope * sizes[0]), slope)


@dataclass(frozen=True)
class StageTimes:
    """What a batch costs, stage by stage."""

    prepare: Cost
    """Reading, hashing, decoding and resizing, on one core."""
    spread: float
    """Standard deviation of the logarithm of one batch's preparation, at the smaller size."""
    pack: Cost
    """Making one value of a batch, and writing it to the object store."""
    host: Cost
    """Putting the pixels together in the model's thread, before the model runs."""
    write_client: Cost
    write_server: Cost
    """Processor seconds of the Qdrant server."""
    shard: Cost
    """Of the coordinator's process, as the next three: handing out a shard."""
    claim: Cost
    count: Cost
    acknowledge: Cost
    round_trip_s: float
    """From a call of an idle coordinator to its answer."""
    driver_batch: Cost
    """Processor seconds of the driver for a batch: Ray Data's scheduling, and acknowledging."""
    driver_shard: Cost
    plan: Cost
    """Processor seconds of the driver before the pipeline starts: listing pictures of Parquet files and planning them."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StageTimes:
        """The same from JSON."""
        return cls(**{key: Cost(**one) if isinstance(one, dict) else one for key, one in values.items()})


class NoCoordinator:
    """Answers at once: what its calls cost is measured by itself."""

    def __init__(self, tasks: Sequence[Task] = ()) -> None:
        self._tasks = tasks

    def shard(self, _number: int) -> list[tuple[int, Task, bool]]:
        """All tasks."""
        return [(row, task, False) for row, task in enumerate(self._tasks, 1)]

    def care(self, _number: int) -> Care:
        """None is needed."""
        return Care()

    def claim(self, ids: Sequence[str], _hashes: Sequence[str]) -> list[None]:
        """All are new."""
        return [None] * len(ids)

    def count(self, *_: object) -> None:
        """Counts nothing."""


class NoModel:
    """Takes no time: that of a GPU is an assumption of the simulation."""

    def encode_pixels(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """float32 [n, dim], all the same."""
        return np.full((len(pixels), DIM), DIM**-0.5, dtype=np.float32)


def write_pictures(folder: Path, count: int) -> list[Task]:
    """So many JPEGs from the samples, each with bytes of its own, as tasks of a plan."""
    originals = sorted(path for path in SAMPLES.rglob("*") if path.is_file())
    folder.mkdir(parents=True)
    tasks = []
    for number in range(count):
        with Image.open(originals[number % len(originals)]) as original:
            picture = ImageOps.fit(original.convert("RGB"), PICTURE)
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=QUALITY)
        path = folder / f"{number:05}.jpg"
        path.write_bytes(out.getvalue() + number.to_bytes(4))  # nobody looks beyond the end of a JPEG
        description = '{"captions": [], "columns": {}}'
        tasks.append(Task(path.as_uri(), "1:1", path.stat().st_size, "", description, "", "added"))
    return tasks


def prepared(tasks: Sequence[Task], spec: ModelSpec, batch_size: int) -> tuple[list[pa.Table], list[float]]:
    """The batches of the first stage, and the processor seconds of each but the first, which warms up."""
    coordinator = cast(RemoteCoordinator, NoCoordinator(tasks))
    stage = Prepare(coordinator, spec.preprocess, SourceSettings(), ImageSettings(), batch_size)
    batches, seconds = [], []
    began = time.process_time()
    for batch in stage(0):
        seconds.append(time.process_time() - began)
        assert set(batch["outcome"].to_pylist()) == {rows.EMBED}
        batches.append(batch)
        began = time.process_time()
    return batches, seconds[1:]


def packed(batch: pa.Table) -> float:
    """Processor seconds of packing a batch and copying it once, as the object store does."""
    began = time.process_time()
    value = rows.pack(batch)["batch"][0].as_buffer()
    np.frombuffer(value, dtype=np.uint8).copy()
    return time.process_time() - began


async def written(
    spec: ModelSpec, batches: Sequence[pa.Table], server: QdrantServer, folder: Path
) -> list[tuple[float, float, float]]:
    """Of each batch: seconds of the model's thread without the model, and of client and server for writing."""
    store = QdrantStore(server.settings(folder))
    await store.create(COLLECTION, spec, bulk=True)
    coordinator = cast(RemoteCoordinator, NoCoordinator())
    stage = EmbedAndWrite(
        coordinator, spec, ModelSettings(), lambda: store, COLLECTION, to_embed=False, texts=()
    )
    stage._load = cast(Any, NoModel)
    process = psutil.Process(server.pid)
    seconds = []
    for batch in batches:
        began = time.thread_time()
        vectors = stage._vectors(batch, {})
        host = time.thread_time() - began
        served, began = sum(process.cpu_times()[:2]), time.process_time()
        await stage._write(batch, vectors)
        client = time.process_time() - began
        seconds.append((host, client, sum(process.cpu_times()[:2]) - served))
    await store.drop(COLLECTION)
    await store.close()
    return seconds


def measure_stages(folder: Path, server: QdrantServer) -> dict[str, Any]:
    """The fields of `StageTimes` that need no Ray."""
    spec = resolve_model(f"fake/{DIM}")
    spec = replace(spec, preprocess=replace(spec.preprocess, size=(SIDE, SIDE)))
    tasks = write_pictures(folder / "pictures", PICTURES)
    preparing, packing, writing = [], [], []
    spread = 0.0
    for size in BATCHES:
        batches, seconds = prepared(tasks, spec, size)
        preparing.append(statistics.median(seconds))
        spread = spread or statistics.stdev(np.log(seconds).tolist())
        packing.append(statistics.median(map(packed, batches)))
        columns = zip(*asyncio.run(written(spec, batches, server, folder)), strict=True)
        writing.append([statistics.mean(column) for column in columns])
    host, client, served = zip(*writing, strict=True)
    return {
        "prepare": line(BATCHES, preparing),
        "spread": spread,
        "pack": line(BATCHES, packing),
        "host": line(BATCHES, host),
        "write_client": line(BATCHES, client),
        "write_server": line(BATCHES, served),
    }
