"""What one replica of each stage manages, by requests in flight: `python -m benchmarks.replicas [--model MODEL]`.

The targets of the Serve configs come from this: the knee is the fewest requests in flight of which twice as many get
less than a tenth more done; they only wait longer. Retrieval asks a real Qdrant server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve

from benchmarks.machine import describe
from cluster.serve_configs import load
from search_core.model import ModelSpec, resolve_model
from search_core.own_ray import own_ray
from search_core.settings import ImageSettings, ModelSettings, Settings, StoreSettings
from search_core.store import new_collection_name
from search_core.stores import open_store
from serve_app.encoders import ImageEncoder, TextEncoder
from serve_app.messages import TermVector, VectorQuery
from serve_app.retrieval_deployment import RetrievalReplica
from tests.fixtures.qdrant_server import QdrantServer
from tests.fixtures.stores import points_of, unit_vectors

IN_FLIGHT = (1, 2, 4, 8, 16, 32)
POINTS = 20_000
WORTH = 1.1

Call = Callable[[int], Coroutine[Any, Any, object]]


async def at(in_flight: int, call: Call, seconds: float) -> dict[str, float]:
    """Requests a second and milliseconds with so many in flight."""
    took: list[float] = []
    numbers = iter(range(10**9))
    begin = time.perf_counter()
    end = begin + seconds

    async def client() -> None:
        while time.perf_counter() < end:
            start = time.perf_counter()
            await call(next(numbers))
            took.append(time.perf_counter() - start)

    await asyncio.gather(*(client() for _ in range(in_flight)))
    spent = time.perf_counter() - begin
    p50, p95 = np.percentile(np.array(took) * 1000, [50, 95])
    return {"per_s": round(len(took) / spent, 1), "p50_ms": round(p50, 1), "p95_ms": round(p95, 1)}


async def curve(call: Call, seconds: float) -> dict[str, Any]:
    """All of them, and the knee."""
    await at(4, call, 1.0)
    rows = {count: await at(count, call, seconds) for count in IN_FLIGHT}
    pairs = itertools.pairwise(IN_FLIGHT)
    knees = (few for few, many in pairs if rows[many]["per_s"] < WORTH * rows[few]["per_s"])
    return {"in_flight": rows, "knee": next(knees, IN_FLIGHT[-1])}


def replica(body: type, name: str, *args: Any) -> Any:
    """A handle of one replica with the options of the cluster's config, but for resources and scaling."""
    options = next(
        one.model_dump(exclude_unset=True)
        for one in load("cluster").applications[0].deployments
        if one.name == name
    )
    kept = {key: options[key] for key in ("user_config", "max_ongoing_requests") if key in options}
    deployment = serve.deployment(body).options(
        name=name, num_replicas=1, ray_actor_options={"num_cpus": 1}, **kept
    )
    return serve.run(deployment.bind(*args), name=name, route_prefix=None)


async def filled(settings: StoreSettings, spec: ModelSpec) -> str:
    """A collection of random vectors with its graph built."""
    store = open_store(settings)
    name = new_collection_name("images", spec)
    await store.create(name, spec, bulk=True)
    for first in range(0, POINTS, 1000):
        await store.upsert(name, points_of(1000, first=first, dim=spec.dim))
    await store.optimize(name)
    await store.close()
    return name


def measure(model: str, seconds: float) -> dict[str, Any]:
    """The curves of the three stages, one after the other."""
    spec, settings = resolve_model(model), ModelSettings(name=model)
    picture = next(Path("samples").rglob("*.webp")).read_bytes()
    found = {}
    with tempfile.TemporaryDirectory() as folder, own_ray(num_cpus=2, include_dashboard=False):
        texts = replica(TextEncoder, "TextEncoder", spec, settings)
        found["TextEncoder"] = asyncio.run(
            curve(lambda n: _of(texts.encode.remote(f"a red car number {n}", spec)), seconds)
        )
        serve.delete("TextEncoder")
        images = replica(ImageEncoder, "ImageEncoder", spec, settings, ImageSettings())
        found["ImageEncoder"] = asyncio.run(
            curve(lambda _: _of(images.encode.remote(picture, spec)), seconds)
        )
        serve.delete("ImageEncoder")
        with QdrantServer(Path(folder)) as server:
            store = server.settings(Path(folder) / "store")
            name = asyncio.run(filled(store, spec))
            retrieval = replica(RetrievalReplica, "Retrieval", Settings(store=store))
            vectors = unit_vectors(1000, spec.dim)

            def query(n: int) -> VectorQuery:
                return VectorQuery(
                    name, (TermVector("text", "text", 1.0, vectors[n % 1000]),), spec.fingerprint
                )

            found["Retrieval"] = asyncio.run(curve(lambda n: _of(retrieval.search.remote(query(n))), seconds))
        serve.shutdown()
    return found


async def _of(response: Any) -> object:
    return await response


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints there what it is surprised at
        stages = measure(options.model, options.seconds)
    figures = {
        "stages": stages,
        "model": options.model,
        "points": POINTS,
        "machine": describe(),
    }
    json.dump(figures, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
