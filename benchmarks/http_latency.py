"""Latency and throughput of text searches over HTTP against a running server.

`python -m benchmarks.http_latency http://127.0.0.1:8000`: distinct queries, so that no cache answers, from one
client and then from several at once.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator

import httpx
import numpy as np

from benchmarks.machine import describe

WARM_UP = 10
SUBJECTS = ("a dog", "two children", "a red car", "an old man", "a bird", "a boat", "some fruit", "a horse")
DEEDS = (
    "running",
    "in the snow",
    "near water",
    "on a table",
    "jumping",
    "at night",
    "in a field",
    "from above",
)
MANNERS = (
    "quickly",
    "alone",
    "with a friend",
    "in the rain",
    "under a tree",
    "beside a wall",
    "in colour",
    "far away",
)


def queries() -> Iterator[str]:
    """Texts that do not repeat within a run."""
    for count in itertools.count():
        for subject, deed, manner in itertools.product(SUBJECTS, DEEDS, MANNERS):
            yield f"{subject} {deed} {manner} {count}"


async def measure(url: str, clients: int, requests: int, texts: Iterator[str]) -> dict[str, float]:
    """Milliseconds and requests a second of `requests` searches by `clients` at once."""
    times: list[float] = []

    async def client(session: httpx.AsyncClient, count: int) -> None:
        for _ in range(count):
            started = time.perf_counter()
            answer = await session.get("/api/search", params={"q": next(texts), "limit": 24})
            times.append(time.perf_counter() - started)
            answer.raise_for_status()

    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as session:
        await client(session, WARM_UP)
        times.clear()
        started = time.perf_counter()
        await asyncio.gather(*(client(session, requests // clients) for _ in range(clients)))
        seconds = time.perf_counter() - started
    milliseconds = np.array(times) * 1000
    return {
        "clients": clients,
        "requests": len(times),
        "median_ms": round(float(np.median(milliseconds)), 1),
        "p95_ms": round(float(np.percentile(milliseconds, 95)), 1),
        "p99_ms": round(float(np.percentile(milliseconds, 99)), 1),
        "requests_per_s": round(len(times) / seconds, 1),
    }


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, default=200)
    arguments = parser.parse_args()
    texts = queries()
    results = [
        asyncio.run(measure(arguments.url, clients, arguments.requests, texts)) for clients in (1, 8, 16)
    ]
    json.dump({"text_search": results, "machine": describe()}, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
