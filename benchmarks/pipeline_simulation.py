"""Does the embedding pipeline keep its GPUs busy, and where does it stop doing so? A simulation on measured times.

`python -m benchmarks.pipeline_simulation [--times FILE] [--images-per-s N ...] [--gpus N ...]` measures the stages on
this machine (`benchmarks.stage_times`, `benchmarks.run_costs`; needs the test programs), or takes what an earlier run
printed, and simulates runs (`benchmarks.pipeline_model`) with the settings that `image-search plan` recommends, and with
the default ones. `--validate` compares the model with the real pipeline on this machine, whose GPUs are threads that
sleep. The pace of the GPUs is an assumption: `cluster.gpus`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from batch_index import pipeline
from batch_index.plan_file import SHARD_ROWS
from benchmarks.machine import describe
from benchmarks.pipeline_model import FULL, Run, simulate
from benchmarks.run_costs import measure_run
from benchmarks.slow_model import PACE_VARIABLE, SlowEmbed
from benchmarks.stage_times import StageTimes, measure_stages, write_pictures
from cli.indexing import run as index
from cluster.ingest import advise, cores_per_gpu
from search_core.settings import IndexSettings, ModelSettings, Settings
from tests.fixtures.qdrant_server import QdrantServer

GPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
PACES = (200, 500, 1500, 3500)
"""Pictures a second of a GPU: ViT-L/14 on an A10, the same on an A100, ViT-B/32 on an RTX 3080 and on an A10."""
CORPUS = 1e8
QDRANT_CORES_PER_GPU = 2
VALIDATED = (60.0, 250.0)
VALIDATION_CORPORA = (1024, 3072)


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
        preparers=max(1, round(gpus * cores_per_gpu(images_per_s))),
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
    few, many = VALIDATION_CORPORA
    for count in VALIDATION_CORPORA:
        write_pictures(folder / f"corpus-{count}", count)
    pipeline.EmbedPacked = SlowEmbed  # type: ignore[misc]
    results = []
    for pace in VALIDATED:
        os.environ[PACE_VARIABLE] = str(pace)
        less, more = (_load_s(folder, server, count, pace) for count in VALIDATION_CORPORA)
        real = (many - few) / (more - less)
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


def _load_s(folder: Path, server: QdrantServer, count: int, pace: float) -> float:
    server.clear()
    settings = Settings(
        store=server.settings(folder / f"state-{count}-{pace:g}"),
        model=ModelSettings(name="builtin"),
        index=IndexSettings(encoders=2, preparers=2, progress_s=0),
    )
    report = index(settings, [str(folder / f"corpus-{count}")])
    assert report.added == count, report
    return report.phases["load"]


def main() -> None:
    """Measures, simulates and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=Path, help="JSON that an earlier run printed")
    parser.add_argument("--images-per-s", type=float, nargs="+", default=PACES, help="of a GPU")
    parser.add_argument("--gpus", type=int, nargs="+", default=GPUS)
    parser.add_argument("--validate", action="store_true")
    options = parser.parse_args()
    result: dict[str, Any] = {}
    if options.times:
        result = json.loads(options.times.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.times or options.validate:
            with QdrantServer(folder / "server") as server:
                if not options.times:
                    times = StageTimes(**measure_stages(folder, server), **measure_run(folder, server))
                    result = {"times": times.to_dict(), "machine": describe()}
                if options.validate:
                    times = StageTimes.from_dict(result["times"])
                    result["validation"] = validated(times, folder, server)
    times = StageTimes.from_dict(result["times"])
    result["runs"] = simulated(times, options.gpus, options.images_per_s)
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
