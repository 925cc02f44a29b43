"""`python -m benchmarks.encoder [--model MODEL] [--threads N]`: pictures and texts a second, by batch size."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.machine import describe
from search_core.encoder import load_encoder
from search_core.model import resolve_model
from search_core.settings import ModelSettings

SECONDS = 3.0
BATCHES = (1, 8, 16, 64)
TEXTS = [f"a red car number {number} in front of a house" for number in range(64)]


def pace(call: Callable[[], object], count: int) -> float:
    """Inputs a second of a call that takes `count` of them."""
    call()
    started, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < SECONDS:
        call()
        done += count
    return round(done / spent, 1)


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    settings = ModelSettings(name=options.model, threads=options.threads)
    encoder = load_encoder(resolve_model(options.model), settings)
    pixels = np.random.default_rng(0).integers(
        0, 255, (max(BATCHES), *encoder.spec.preprocess.size, 3), np.uint8
    )
    figures = {
        "pictures_per_second": {n: pace(lambda n=n: encoder.encode_pixels(pixels[:n]), n) for n in BATCHES},
        "texts_per_second": {n: pace(lambda n=n: encoder.encode_texts(TEXTS[:n]), n) for n in BATCHES},
        "model": options.model,
        "device": encoder.device,
        "precision": encoder.precision,
        "machine": describe(),
    }
    json.dump(figures, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
