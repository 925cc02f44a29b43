"""SIGINT and SIGTERM as one exception in the main thread, wherever it is; a second signal ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
FORCED_EXIT = 130
POLL_S = 0.5


class Stopped(BaseException):
    """Somebody asked this process to stop."""


class StopSignals:
    """Raises `Stopped` at the first signal. Ray installs handlers of its own: call `install` after its start."""

    def __init__(self) -> None:
        self._received = False

    def install(self) -> None:
        """Takes the signals, also where a shell had them ignored for a job in the background."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        self.check()

    def check(self) -> None:
        """Raises `Stopped` if a signal came where its exception was swallowed."""
        if self._received:
            raise Stopped

    def wait(self) -> None:
        """Waits for a signal."""
        while True:
            self.check()
            time.sleep(POLL_S)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._received:
            os._exit(FORCED_EXIT)  # Ray's processes die with this one
        self._received = True
        raise Stopped


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopSignals]:
    """Handles the signals within the block and leaves them as they were; ends the block quietly when stopped."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signals = StopSignals()
    try:
        signals.install()
        yield signals
    except Stopped:
        pass
    except SystemExit as error:  # the handler that Ray installs while it starts
        if error.code != signal.SIGTERM:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
