"""Does the embedding pipeline keep its GPUs busy, and where does it stop doing so? A simulation on measured times.

`python -m benchmarks.pipeline_simulation [--times FILE] [--images-per-s N ...] [--gpus N ...]` measures the stages on
this machine (`benchmarks.stage_times`, `benchmarks.run_costs`; needs the test programs), or takes what an earlier run
printed, and simulates runs (`benchmarks.pipeline_model`) with the settings that `image-search plan` recommends, and with
the default ones. `--validate` compares the model with the real pipeline on this machine, whose GPUs are threads that
sleep. The pace of the GPUs is an assumption: `cluster.capacity.gpus`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from cli.main import ENVIRONMENT


def main() -> None:
    """Measures, simulates and prints JSON."""
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    from benchmarks.pipeline_runs import (
        GPUS,
        PACES,
        simulated,
        validated,
    )  # Ray reads the environment on import
    from benchmarks.run_costs import measure_run
    from benchmarks.stage_times import StageTimes, measure_stages
    from tests.fixtures.qdrant_server import QdrantServer

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
