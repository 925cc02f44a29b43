"""Ray for one job: the server's, joined by its address, or one of its own that ends with the job."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from search_core.errors import StoreUnavailableError
from search_core.owner import NAMESPACE
from search_core.silence import silent_stderr

OBJECT_STORE_BYTES = 1_000_000_000
STARTS = 2
ANSWER_S = 10


@contextmanager
def ray_runtime(address: str | None, cpus: float) -> Iterator[None]:
    """Connects this process to Ray for as long as the context lasts.

    Raises:
        StoreUnavailableError: the Ray at `address` does not answer, or none can be started here.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray's C++ notes on stderr are not for our users
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with silent_stderr():
            _connect(address, cpus)
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own there, which exits without cleaning up
        yield
    finally:
        ray.shutdown()


def node_resources() -> list[dict[str, float]]:
    """What each node of the connected Ray has, by the kind of resource, in use or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _knock(address: str) -> None:
    """Finds out at once that nobody is there: Ray itself tries again for minutes."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), ANSWER_S).close()


def _connect(address: str | None, cpus: float) -> None:
    quiet: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        try:
            _knock(address)
            ray.init(address=address, **quiet)
        except (OSError, RuntimeError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise StoreUnavailableError(f"the server's Ray at {address} does not answer: {line}") from None
        return
    for attempt in range(1, STARTS + 1):  # a cold disk can make Ray miss its own start deadline
        try:
            ray.init(
                num_cpus=max(1, round(cpus)) if cpus else None,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
            return
        except (ConnectionError, RuntimeError, OSError, ValueError) as error:
            ray.shutdown()
            if attempt == STARTS:
                raise StoreUnavailableError(f"Ray cannot be started: {str(error).splitlines()[0]}") from None
