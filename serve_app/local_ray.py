"""Ray on one machine, for as long as a server runs."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from threading import Thread

import ray

from search_core.heavy_imports import collector_paused
from search_core.silence import silent_stderr

LEAST_CPUS = 2
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray's C++ notes on stderr are not for our users
    "GRADIO_ANALYTICS_ENABLED": "False",
}

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def local_ray(imports: Sequence[str] = ()) -> Iterator[None]:
    """A Ray of our own on this machine, which dies with this process however it ends.

    Its start is waited for, seconds in which this process imports the modules that are needed next.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for module in imports:
        Thread(target=_import, args=(module,), daemon=True).start()
    try:
        try:
            _start_ray()
        except Exception:  # its head process sometimes misses its own deadline on a cold disk
            logger.warning("Ray did not start; trying once more", exc_info=True)
            ray.shutdown()
            _start_ray()
        yield
    finally:
        ray.shutdown()


def _import(module: str) -> None:
    with collector_paused():
        import_module(module)


def _start_ray() -> None:
    with silent_stderr():
        ray.init(
            address="local",
            num_cpus=max(LEAST_CPUS, os.cpu_count() or 1),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
