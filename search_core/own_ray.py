"""A Ray of this process's own, all of whose processes end with it; if it is killed, two of them a minute later."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
POLL_S = 0.05

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
    others = set(psutil.Process().children())
    try:
        yield _start(options, others)
    finally:
        _stop(others)


def _start(options: dict[str, Any], others: set[psutil.Process]) -> Any:
    """Starts it, twice if need be: on a cold disk or a busy machine Ray misses its own deadline."""
    for attempt in range(1, STARTS + 1):
        try:
            with silent_stderr():
                # `local`, else Ray joins whatever cluster was started on this machine
                return ray.init(address="local", log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:  # a missed deadline is a plain one
            logger.info("Ray did not start", exc_info=True)
            _stop(others)
            if attempt == STARTS:
                line = (str(error).splitlines() or [type(error).__name__])[0]
                raise StartError(
                    f"Ray does not start on this machine, which may be too busy: {line}"
                ) from None
    raise AssertionError


def _stop(others: set[psutil.Process]) -> None:
    """Shuts Ray down, and sees to it that its processes end: those of this process's children that are no `others`.

    Ray gives its own a second, and then leaves them to find out by themselves.
    """
    heads = set(psutil.Process().children()) - others
    left = {process for head in heads for process in (head, *_offspring(head))}
    try:
        ray.shutdown()
    finally:
        deadline = time.monotonic() + LEAVE_S
        while (left := set(filter(_runs, left))) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _offspring(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _runs(process: psutil.Process) -> bool:
    """A zombie has ended: whoever is to notice that is not this process."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
