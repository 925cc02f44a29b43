"""Only a person's newest search may answer: an older one is cancelled, and its answer dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Latest:
    """The newest search of one page visit. It lives in that visit's `gr.State`, never in the module."""

    def __init__(self) -> None:
        self._running: asyncio.Task[Any] | None = None

    async def run(self, search: Coroutine[Any, Any, T]) -> T | None:
        """The search's result, or None when a newer one was started before it was done."""
        self.stop()
        task: asyncio.Task[T] = asyncio.ensure_future(search)
        self._running = task
        try:
            result = await task
        except asyncio.CancelledError:
            if self._running is task:  # not overtaken: the caller itself is being cancelled
                raise
            return None
        except Exception:
            if self._running is task:
                raise
            return None
        return result if self._running is task else None

    def stop(self) -> None:
        """Give up whatever is being searched for."""
        running, self._running = self._running, None
        if running is not None and not running.done():
            running.cancel()
