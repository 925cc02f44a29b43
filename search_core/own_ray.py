"""A Ray of this process's own, all of whose processes end with it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import ray

from search_core.errors import StartError
from search_core.silence import silent_stderr

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray's C++ notes on stderr are not for our users
}
STARTS = 2
LEAVE_S = 5.0

logger = logging.getLogger(__name__)


def quiet_ray() -> None:
    """Keeps a Ray that this process is about to start or to join from talking to users and home."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


@contextmanager
def own_ray(**options: Any) -> Iterator[Any]:
    """Starts a Ray with these options of `ray.init` for as long as the context lasts; gives what that returns.

    Raises:
        StartError: it does not start.
    """
    quiet_ray()
    mine = psutil.Process()
    others = set(mine.children())
    try:
        context = _start(options)
        yield context
    finally:
        heads = set(mine.children()) - others
        started = {process for head in heads for process in (head, *_offspring(head))}
        ray.shutdown()
        _end(started)


def _start(options: dict[str, Any]) -> Any:
    """Starts it, twice if need be: on a cold disk or a busy machine Ray misses its own deadline."""
    for attempt in range(1, STARTS + 1):
        try:
            with silent_stderr():
                # `local`, else Ray joins whatever cluster was started on this machine
                return ray.init(address="local", log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:  # a missed deadline is a plain one
            logger.info("Ray did not start", exc_info=True)
            ray.shutdown()
            if attempt == STARTS:
                line = (str(error).splitlines() or [type(error).__name__])[0]
                raise StartError(
                    f"Ray does not start on this machine, which may be too busy: {line}"
                ) from None
    raise AssertionError


def _offspring(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _end(processes: set[psutil.Process]) -> None:
    """Sees to it that they end: Ray gives its own a second, and then leaves them to find out by themselves."""
    _, left = psutil.wait_procs(processes, timeout=LEAVE_S)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=LEAVE_S)
