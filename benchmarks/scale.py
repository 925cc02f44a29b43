"""A corpus of small pictures through the whole index run: pictures a second, and memory.

`python -m benchmarks.scale` makes Parquet shards of 64x64 JPEGs, each with other bytes, and indexes them by
`image-search index` with the fake 512-d encoder into an embedded store, all in a folder that it removes afterwards.
Memory is what `/proc` says of the command and its descendants, each second: anonymous pages (`RssAnon`), which no
other process shares, and Ray's object store (`RssShmem`, counted once, in the process that has most of it).
`loaded_per_s` is pictures by the seconds from the start of the listing until the store has acknowledged the last one,
Ray's start included; building HNSW follows, and is timed by itself. `growth_bytes_per_row` is by how much private memory
grows from a third of the load to its end. `--max-gb`, `--max-growth`, `--max-store-gb` and `--min-per-s` make the command
fail where a figure is beyond them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.machine import describe
from benchmarks.memory import MemoryWatch, Sample

SIDE = 64
ROWS_PER_FILE = 50_000
ROWS_PER_GROUP = 4096
MODEL = "fake/512"
SETTINGS = {
    "IMAGE_SEARCH_MODEL__NAME": MODEL,
    "IMAGE_SEARCH_INDEX__BATCH_SIZE": "512",  # pictures as light as these cost less than handing them on
    "IMAGE_SEARCH_INDEX__PROGRESS_S": "10",
}


def jpeg(number: int) -> bytes:
    """A picture of coarse patches, another one for each number."""
    patches = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(patches).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


def write_file(folder: Path, rows: int, first: int) -> None:
    """One Parquet file with pictures `first` and following."""
    schema = pa.schema([("image", pa.binary()), ("number", pa.int64())])
    with pq.ParquetWriter(folder / f"{first:09}.parquet", schema, compression="none") as writer:
        last = min(first + ROWS_PER_FILE, rows)
        for start in range(first, last, ROWS_PER_GROUP):
            numbers = range(start, min(start + ROWS_PER_GROUP, last))
            writer.write_table(pa.table([[jpeg(n) for n in numbers], list(numbers)], schema=schema))


def make_corpus(folder: Path, rows: int) -> None:
    """Parquet files with so many pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(write_file, folder, rows), range(0, rows, ROWS_PER_FILE)))


def start(corpus: Path, store: Path, stderr: int | None = None, **settings: str) -> subprocess.Popen[str]:
    """Starts the index command on an embedded store, with `SETTINGS` and further ones."""
    environment = {**os.environ, **SETTINGS, **settings, "IMAGE_SEARCH_STORE__PATH": str(store)}
    words = [str(Path(sys.executable).with_name("image-search")), "index", str(corpus), "--json"]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)


def index(corpus: Path, store: Path) -> tuple[dict[str, Any], MemoryWatch]:
    """Runs the command; gives its report and the memory that it took."""
    process = start(corpus, store)
    with MemoryWatch(process.pid) as watch:
        out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the index run failed with code {process.returncode}")
    return json.loads(out), watch


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="keeps the corpus there")
    parser.add_argument("--max-gb", type=float, help="most private memory")
    parser.add_argument("--max-growth", type=float, help="most bytes of private memory a row")
    parser.add_argument("--max-store-gb", type=float, help="most in Ray's object store")
    parser.add_argument("--min-per-s", type=float, help="least pictures loaded a second")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        corpus = (arguments.folder or Path(temporary)) / f"pictures-{arguments.rows}"
        began = time.perf_counter()
        if not corpus.is_dir():
            make_corpus(corpus, arguments.rows)
        sys.stderr.write(f"{arguments.rows} pictures made in {time.perf_counter() - began:.0f} s\n")
        report, watch = index(corpus, Path(temporary) / "store")
    if report["added"] != arguments.rows:
        raise SystemExit(f"{report['added']} of {arguments.rows} pictures were added")
    peak = max(watch.samples, key=lambda sample: sample.private)
    phases = report["phases"]
    loaded_s = phases["plan"] + phases["load"]
    growth = _growth(watch.samples, loaded_s, arguments.rows)
    object_store_gb = round(max(sample.shared for sample in watch.samples) / 1e9, 2)
    loaded_per_s = round(arguments.rows / loaded_s)
    result = {
        "rows": arguments.rows,
        "loaded_per_s": loaded_per_s,
        "hnsw_s": phases.get("hnsw"),
        "growth_bytes_per_row": growth,
        "report": report,
        "private_gb": {
            "peak": round(peak.private / 1e9, 2),
            "at_s": round(peak.seconds),
            "each_half_minute": [round(s.private / 1e9, 2) for s in watch.samples[::30]],
            "largest": {
                name: round(size / 1e9, 2)
                for name, size in sorted(watch.largest.items(), key=lambda pair: -pair[1])[:8]
            },
        },
        "object_store_gb": object_store_gb,
        "machine": describe(),
    }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")
    if arguments.max_gb and peak.private > arguments.max_gb * 1e9:
        raise SystemExit(f"{peak.private / 1e9:.2f} GB of private memory are more than {arguments.max_gb:g}")
    if arguments.max_growth and growth > arguments.max_growth:
        raise SystemExit(f"memory grows by {growth} bytes a row, more than {arguments.max_growth:g}")
    if arguments.max_store_gb and object_store_gb > arguments.max_store_gb:
        raise SystemExit(
            f"{object_store_gb} GB in Ray's object store are more than {arguments.max_store_gb:g}"
        )
    if arguments.min_per_s and loaded_per_s < arguments.min_per_s:
        raise SystemExit(f"{loaded_per_s} pictures a second are fewer than {arguments.min_per_s:g}")


def _growth(samples: Sequence[Sample], loaded_s: float, rows: int) -> int:
    """Bytes a row, from a third of the load to its end."""
    third, end = (min(samples, key=lambda s: abs(s.seconds - share * loaded_s)) for share in (1 / 3, 1))
    return round((end.private - third.private) / (rows * 2 / 3))


if __name__ == "__main__":
    main()
