"""Shows the published collection to the metrics, for as long as a replica lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from search_core.errors import NothingPublishedError, SearchError
from serve_app.messages import CollectionInfo, Pin

EVERY_S = 5.0
"""More often than Ray exports: it drops a gauge that is not set again for two exports."""

logger = logging.getLogger(__name__)


class Lookup(Protocol):
    """The part of `Retrieval` that knows collections."""

    async def pin(self, name: str | None, fresh: bool = False) -> Pin:
        """The published collection for None."""

    async def collection(self, name: str) -> CollectionInfo:
        """One collection."""


async def watch_published(
    lookup: Lookup, show: Callable[[CollectionInfo], None], every_s: float = EVERY_S
) -> None:
    """Shows the published collection again and again; while it cannot be looked up, nothing."""
    while True:
        try:
            pin = await lookup.pin(None)
            show(await lookup.collection(pin.collection))
        except NothingPublishedError:
            pass
        except SearchError as error:
            logger.warning("the published collection cannot be looked up: %s", error)
        except Exception:  # whatever it is, the next look may go well
            logger.exception("the published collection cannot be looked up")
        await asyncio.sleep(every_s)
