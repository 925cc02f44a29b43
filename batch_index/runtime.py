"""Ray for one job: a server's or a cluster's, joined by its address, or one of its own that ends with the job."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private.worker import BaseContext
from ray.exceptions import RayError

from search_core.errors import StoreUnavailableError, UsageError
from search_core.own_ray import own_ray, quiet_ray
from search_core.owner import NAMESPACE
from search_core.settings import IndexSettings
from search_core.silence import silent_stderr

OBJECT_STORE_BYTES = 1_000_000_000
ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Ray's own: `HOST:PORT` of a cluster to join. This machine must be one of its nodes."""
ANSWER_S = 10


@contextmanager
def ray_runtime(address: str | None, settings: IndexSettings) -> Iterator[str]:
    """Connects this process to Ray for as long as the context lasts: the one at `address`, else the one that
    RAY_ADDRESS names, else one of its own. Gives the URL of its dashboard; empty if it has none.

    Raises:
        UsageError: that address is not HOST:PORT.
        StoreUnavailableError: that Ray does not answer.
        StartError: none can be started here.
    """
    handler = signal.getsignal(signal.SIGTERM)
    with _connected(address, settings) as context:
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own there, which exits without cleaning up
        yield f"http://{context.dashboard_url}" if context.dashboard_url else ""


def node_resources() -> list[dict[str, float]]:
    """What each node of the connected Ray has, by the kind of resource, in use or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def _connected(address: str | None, settings: IndexSettings) -> Iterator[BaseContext]:
    named = address or os.environ.get(ADDRESS_VARIABLE)
    if not named:
        with own_ray(
            namespace=NAMESPACE,
            num_cpus=max(1, round(settings.cpus)) if settings.cpus else None,
            include_dashboard=settings.dashboard,
            _metrics_export_port=settings.metrics_port or None,
            object_store_memory=OBJECT_STORE_BYTES,
        ) as context:
            yield context
        return
    quiet_ray()
    try:
        with silent_stderr():
            context = _join(named, "the server's Ray" if address else f"the Ray of {ADDRESS_VARIABLE}")
        yield context
    finally:
        ray.shutdown()


def _join(address: str, whose: str) -> BaseContext:
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise UsageError(f"{whose}: {address!r} is not HOST:PORT of a Ray that this machine is a node of")
    try:
        _knock(host.strip("[]"), int(port))
        return ray.init(
            address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR
        )
    except (OSError, RuntimeError, RayError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreUnavailableError(f"{whose} at {address} does not answer: {line}") from None


def _knock(host: str, port: int) -> None:
    """Finds out at once that nobody is there: Ray itself tries again for minutes."""
    socket.create_connection((host, port), ANSWER_S).close()
