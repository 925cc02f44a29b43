"""The second stage: pixels become vectors, and vectors points of the collection."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_index import rows
from batch_index.coordinator_client import RemoteCoordinator
from search_core.addresses import split_inside
from search_core.encoder import Encoder, load_encoder
from search_core.errors import ImageError
from search_core.model import ModelSpec
from search_core.points import Batch, Vectors
from search_core.settings import ModelSettings
from search_core.store import Store

STAGE_EMBED, STAGE_WRITE = "embed", "write"
TEXT_BATCH = 64


class EmbedAndWrite:
    """Prepared pictures in, acknowledged ones out: each row is given back once the store has it.

    One encoder an actor, in a thread of its own; the next batch is embedded while the last one is written.
    The encoder is loaded at once if the plan has something `to_embed`, else when it is needed after all.
    `texts` are encoded once in a run, by whichever actor has the plan's first row.
    A `restarted` one does again what its killed predecessor had not given back, but for embedding what that one wrote.
    """

    def __init__(
        self,
        coordinator: RemoteCoordinator,
        spec: ModelSpec,
        settings: ModelSettings,
        open_store: Callable[[], Store],
        collection: str,
        *,
        to_embed: bool,
        texts: Sequence[str],
        restarted: bool = False,
    ) -> None:
        self._coordinator = coordinator
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._load = functools.cache(functools.partial(load_encoder, spec, settings))
        if to_embed:
            self._thread.submit(self._load)
        self._height, self._width = spec.preprocess.size
        self._dim = spec.dim
        self._open_store = open_store
        self._store: Store | None = None
        self._collection = collection
        self._texts = texts
        self._restarted = restarted
        self._begun = False

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """One batch of `batch_index.rows.PREPARED`; gives `ACKNOWLEDGED`."""
        run = functools.partial(asyncio.get_running_loop().run_in_executor, self._thread)
        if self._restarted and not self._begun:
            self._begun = True
            await self._coordinator.start_again()
        written = await self._written(batch) if self._restarted else {}
        vectors = await run(self._vectors, batch, written)
        await self._write(batch, vectors)
        text_means = [b""] * batch.num_rows
        if self._texts and pc.any(pc.equal(batch["row"], 1)).as_py():
            text_means[0] = (await run(mean_of_texts, self._load, self._texts)).tobytes()
        columns = [batch[name] for name in rows.ACKNOWLEDGED.names[:-1]]
        return pa.Table.from_arrays(
            [*columns, pa.array(text_means, pa.large_binary())], schema=rows.ACKNOWLEDGED
        )

    async def _written(self, batch: pa.Table) -> dict[str, Vectors]:
        """The vectors, float32 [dim], that the store has of what is to be embedded, by id."""
        table = batch.select(["id", "outcome", "payload"])
        new = table.filter(pc.equal(table["outcome"], rows.EMBED))
        payloads = map(json.loads, new["payload"].to_pylist())
        hashes = dict(zip(new["id"].to_pylist(), (one["content_hash"] for one in payloads), strict=True))
        points = await self._opened().retrieve(self._collection, list(hashes), with_vectors=True)
        return {
            point.id: point.vector
            for point in points
            if point.vector is not None and point.payload["content_hash"] == hashes[point.id]
        }

    def _vectors(self, batch: pa.Table, written: Mapping[str, Vectors]) -> Vectors:
        """float32 [n, dim]: of what is to be written, those that are known by id among them; zeros elsewhere."""
        began = time.perf_counter()
        vectors = np.zeros((batch.num_rows, self._dim), dtype=np.float32)
        outcomes, ids = batch["outcome"].to_pylist(), batch["id"].to_pylist()
        for index in (index for index, id in enumerate(ids) if id in written):
            vectors[index] = written[ids[index]]
        new = [i for i, outcome in enumerate(outcomes) if outcome == rows.EMBED and ids[i] not in written]
        for index in (index for index, outcome in enumerate(outcomes) if outcome == rows.REUSE):
            vectors[index] = np.frombuffer(batch["vector"][index].as_buffer(), dtype=np.float32)
        if new:
            pixels = np.empty((len(new), self._height, self._width, 3), dtype=np.uint8)
            for place, index in enumerate(new):
                flat = np.frombuffer(batch["pixels"][index].as_buffer(), dtype=np.uint8)
                pixels[place] = flat.reshape(pixels.shape[1:])
            vectors[new] = self._load().encode_pixels(pixels)
        self._coordinator.count(STAGE_EMBED, len(new), time.perf_counter() - began)
        return vectors

    async def _write(self, batch: pa.Table, vectors: Vectors) -> None:
        began = time.perf_counter()
        store = self._opened()
        table = batch.select(["id", "uri", "action", "origin", "outcome", "reason", "payload"]).to_pydict()
        written = [i for i, outcome in enumerate(table["outcome"]) if outcome in {rows.EMBED, rows.REUSE}]
        # what was changed and is broken now is not what was indexed any more
        lost = [
            table["id"][i]
            for i, outcome in enumerate(table["outcome"])
            if outcome == rows.BROKEN
            and table["action"][i] == "updated"
            and _says_something_of_the_bytes(table["reason"][i], table["uri"][i])
        ]
        replaced = [table["id"][i] for i in written if table["action"][i] == "updated"]
        if replaced:
            await self._coordinator.retire(replaced)
        # a moved point goes before it comes: an interruption in between costs one embedding, and leaves no stale one
        moved = [table["origin"][i] for i in written if table["origin"][i]]
        await store.delete(self._collection, moved + lost)
        points = Batch(
            ids=[table["id"][i] for i in written],
            vectors=vectors[written],
            payloads=[json.loads(table["payload"][i]) for i in written],
        )
        await store.upsert(self._collection, points)
        seconds = time.perf_counter() - began
        await asyncio.to_thread(self._coordinator.count, STAGE_WRITE, len(written), seconds)

    def _opened(self) -> Store:
        if self._store is None:  # within the event loop that will use it, as gRPC wants
            self._store = self._open_store()
        return self._store


def _says_something_of_the_bytes(reason: str, uri: str) -> bool:
    """A table or tar that cannot be read is `unreadable` in each of its pictures, for want of the network too."""
    return reason not in ImageError.NOT_HAD and not (reason == "unreadable" and split_inside(uri) is not None)


def mean_of_texts(load: Callable[[], Encoder], texts: Sequence[str]) -> Vectors:
    """float32 [dim]."""
    encoder = load()
    parts = [encoder.encode_texts(texts[i : i + TEXT_BATCH]) for i in range(0, len(texts), TEXT_BATCH)]
    mean: Vectors = np.concatenate(parts).mean(axis=0)
    return mean
