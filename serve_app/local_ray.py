"""Ray on one machine, for as long as a server runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from threading import Thread

from search_core.heavy_imports import collector_paused
from search_core.own_ray import own_ray

LEAST_CPUS = 2


@contextlib.contextmanager
def local_ray(imports: Sequence[str] = (), metrics_port: int = 0) -> Iterator[None]:
    """A Ray of our own on this machine, which dies with this process however it ends.

    It exports its metrics at `metrics_port`, 0 for a free one.

    Its start is waited for, seconds in which this process imports the modules that are needed next.

    Raises:
        StartError: it does not start.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    for module in imports:
        Thread(target=_import, args=(module,), daemon=True).start()
    with own_ray(
        num_cpus=max(LEAST_CPUS, os.cpu_count() or 1),
        include_dashboard=False,
        _metrics_export_port=metrics_port or None,
    ):
        yield


def _import(module: str) -> None:
    with collector_paused():
        import_module(module)
