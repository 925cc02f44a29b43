"""The runs that are simulated, and those that the model is compared with."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from batch_index import pipeline
from batch_index.plan_file import SHARD_ROWS
from benchmarks.pipeline_model import FULL, Run, simulate
from benchmarks.run_costs import patiently
from benchmarks.slow_model import PACE_VARIABLE, SlowEmbed
from benchmarks.stage_times import StageTimes, write_pictures
from cli.indexing import run as index
from cluster.capacity.ingest import advise, cores_per_gpu
from search_core.settings import IndexSettings, ModelSettings, Settings
from tests.fixtures.qdrant_server import QdrantServer

GPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
PACES = (200, 500, 1500, 3500)
"""Pictures a second of a GPU: ViT-L/14 on an A10, the same on an A100, ViT-B/32 on an RTX 3080 and on an A10."""
CORPUS = 1e8
QDRANT_CORES_PER_GPU = 2
VALIDATED = (25.0, 50.0, 100.0)
VALIDATION_CORPUS = 3072
COUNT_EACH_S = 0.2


def recommended(gpus: int, images_per_s: float) -> Run:
    """A run as `image-search plan` would have it."""
    advice = advise(CORPUS, gpus, images_per_s)
    return Run(
        gpus=gpus,
        images_per_s=images_per_s,
        encoders_per_gpu=advice.encoders // gpus,
        preparers=advice.preparers,
        batch_size=advice.batch_size,
        shard_rows=advice.shard_rows,
        max_in_flight=advice.max_in_flight,
        max_tasks_in_flight=advice.max_tasks_in_flight,
        qdrant_cores=QDRANT_CORES_PER_GPU * gpus,
    )


def default(gpus: int, images_per_s: float) -> Run:
    """The same machines with the default settings, and an encoder a GPU."""
    settings = IndexSettings()
    return Run(
        gpus=gpus,
        images_per_s=images_per_s,
        encoders_per_gpu=1,
        preparers=math.ceil(gpus * cores_per_gpu(images_per_s)),
        batch_size=settings.batch_size,
        shard_rows=SHARD_ROWS,
        max_in_flight=settings.max_in_flight,
        max_tasks_in_flight=settings.max_tasks_in_flight,
        qdrant_cores=QDRANT_CORES_PER_GPU * gpus,
    )


def simulated(times: StageTimes, gpus: Sequence[int], paces: Sequence[float]) -> list[dict[str, Any]]:
    """Runs of each pace, up to the first number of GPUs that is not kept busy with either kind of settings."""
    results = []
    for pace in paces:
        for kind, settings in (("recommended", recommended), ("default", default)):
            for number in gpus:
                run = settings(number, pace)
                outcome = simulate(run, times)
                shares = {key: round(share, 3) for key, share in asdict(outcome).items() if key != "gpus"}
                results.append(
                    {
                        "settings": kind,
                        **asdict(run),
                        "result": {**shares, "bottleneck": outcome.bottleneck},
                    }
                )
                sys.stderr.write(
                    f"{kind:12} {number:4} GPUs of {pace:5.0f}/s: {outcome.busy:6.1%} {outcome.bottleneck}\n"
                )
                if outcome.busy < FULL / 2:
                    break
    return results


def validated(times: StageTimes, folder: Path, server: QdrantServer) -> list[dict[str, Any]]:
    """Pictures a second of the real pipeline and of the model: two encoders that sleep, two preparers, batches of 64."""
    write_pictures(folder / "corpus", VALIDATION_CORPUS)
    pipeline.EmbedPacked = SlowEmbed  # type: ignore[misc]
    results = []
    for pace in VALIDATED:
        os.environ[PACE_VARIABLE] = str(pace)
        real = patiently(partial(_real_images_per_s, folder, server, pace))
        run = Run(2, pace, 1, 2, 64, SHARD_ROWS, IndexSettings().max_in_flight, 2, qdrant_cores=1)
        outcome = simulate(run, times)
        results.append(
            {
                "gpus": 2,
                "images_per_s_per_gpu": pace,
                "real_images_per_s": round(real, 1),
                "simulated_images_per_s": round(outcome.images_per_s, 1),
                "deviation": round(outcome.images_per_s / real - 1, 3),
                "bottleneck": outcome.bottleneck,
            }
        )
        sys.stderr.write(f"{results[-1]}\n")
    return results


def _real_images_per_s(folder: Path, server: QdrantServer, pace: float) -> float:
    """In the middle of a run, between a quarter and nine tenths of its pictures."""
    server.clear()
    settings = Settings(
        store=server.settings(folder / f"state-{pace:g}"),
        model=ModelSettings(name="builtin"),
        index=IndexSettings(encoders=2, preparers=2, progress_s=0),
    )
    counts: list[tuple[float, int]] = []
    over = Event()
    watch = Thread(target=_count, args=(server, counts, over), daemon=True)
    watch.start()
    try:
        report = index(settings, [str(folder / "corpus")])
    finally:
        over.set()
        watch.join()
    assert report.added == VALIDATION_CORPUS, report
    early, late = (
        next(one for one in counts if one[1] >= share * VALIDATION_CORPUS) for share in (0.25, 0.9)
    )
    return (late[1] - early[1]) / (late[0] - early[0])


def _count(server: QdrantServer, counts: list[tuple[float, int]], over: Event) -> None:
    """Notes how many points there are, again and again."""
    while not over.wait(COUNT_EACH_S):
        names = [item["name"] for item in server.ask("/collections")["collections"]]
        found = [server.ask(f"/collections/{name}/points/count", {"exact": True}, "POST") for name in names]
        counts.append((time.monotonic(), sum(one["count"] for one in found)))
