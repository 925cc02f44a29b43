"""Ray for one job: a server's or a cluster's, joined by its address, or one of its own that ends with the job."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

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
LOOK_S = 1.0
LOOKS_AT_SERVER, LOOKS_AT_CLUSTER = 3, 45
"""The head of a cluster may come back, which Ray itself waits a minute for."""


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
    whose = "the server's Ray" if address else f"the Ray of {ADDRESS_VARIABLE}"
    host, port = _host_and_port(named, whose)
    with _one_line(f"{whose} at {named}"):
        _knock(host, port)
    line = f"{whose} at {named} has ended; run the same command again to go on"
    with _ending_with(host, port, line, looks=LOOKS_AT_SERVER if address else LOOKS_AT_CLUSTER):
        try:
            with _one_line(f"{whose} at {named}"), silent_stderr():
                context = ray.init(
                    address=named, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR
                )
            yield context
        finally:
            ray.shutdown()


def _host_and_port(address: str, whose: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise UsageError(f"{whose}: {address!r} is not HOST:PORT of a Ray that this machine is a node of")
    return host.strip("[]"), int(port)


@contextmanager
def _one_line(whose: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, RayError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreUnavailableError(f"{whose} does not answer: {line}") from None


def _knock(host: str, port: int) -> None:
    """Finds out at once that nobody is there: Ray itself tries again for minutes."""
    socket.create_connection((host, port), ANSWER_S).close()


@contextmanager
def _ending_with(host: str, port: int, line: str, looks: int) -> Iterator[None]:
    """Ends this process with a line of text once nobody is there for so many looks, whatever it is waiting for.

    Ray ends it too, a minute later and without a word, and may wait for that minute in any of its calls.
    """
    over = Event()
    stderr = os.dup(2)  # while Ray starts, the other one leads nowhere

    def look() -> None:
        missed = 0
        while not over.wait(LOOK_S):
            try:
                _knock(host, port)
            except OSError:
                missed += 1
            else:
                missed = 0
            if missed == looks:
                os.write(stderr, f"image-search: {line}\n".encode())
                os._exit(1)

    looking = Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()
        os.close(stderr)
