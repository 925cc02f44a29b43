"""The shards of an embedded store that this process has open: opened at first use, let go when nobody needs them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import qdrant_edge as edge

from search_core.edge_config import is_linked
from search_core.edge_files import EdgeFiles
from search_core.errors import StoreError, StoreLockedError

RETRY_PAUSE_S = 0.1


@dataclass
class OpenShard:
    """An open shard. `calls` use it now; while `changed` is a set, ids that are written or deleted are noted in it."""

    shard: edge.EdgeShard
    generation: int
    linked: bool = True
    """Whether HNSW has links for filters."""
    calls: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the last call ends."""
    last_used: float = 0.0
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: set[str] | None = None
    unflushed: int = 0
    """Points written since the last flush."""

    def note(self, ids: Sequence[str]) -> None:
        """Remembers what an optimized copy of the shard has yet to learn."""
        if self.changed is not None:
            self.changed.update(ids)

    def count(self) -> int:
        """How many points it has."""
        return self.shard.count(edge.CountRequest(exact=True))


class EdgeShards:
    """Open shards by collection. Calls that use one are counted, so that none is closed under a call."""

    def __init__(self, files: EdgeFiles, lock_timeout_s: float) -> None:
        self._files = files
        self._lock_timeout_s = lock_timeout_s
        self._open: dict[str, OpenShard] = {}

    @asynccontextmanager
    async def using(self, name: str) -> AsyncIterator[OpenShard]:
        """The open shard, for one call; waits for one that another process holds.

        Raises:
            StoreLockedError: it is held for longer than the setting allows.
        """
        held = await self._opened(name)
        held.calls += 1
        held.unused.clear()
        try:
            yield held
        finally:
            held.calls -= 1
            held.last_used = time.monotonic()
            if not held.calls:
                held.unused.set()

    def find(self, name: str) -> OpenShard | None:
        """The shard if it is open; looking at it so is no use of it."""
        return self._open.get(name)

    def load(self, name: str) -> OpenShard:
        """Opens a shard that the caller closes again.

        Raises:
            StoreLockedError: another process holds it.
        """
        generation = self._generation(name)
        path = self._files.shard(name, generation)
        held = f"the store {self._files.root} is held by {self._files.holder(name)}: wait for it or stop it"
        try:
            shard = edge.EdgeShard.load(str(path))
        except Exception as error:  # qdrant_edge raises plain Exception for everything
            if "WouldBlock" in str(error) or self._generation(name) != generation:
                raise StoreLockedError(held) from None
            raise StoreError(f"collection {name} cannot be opened: {error}") from None
        if self._generation(name) != generation:  # its holder has just gone on to an optimized copy
            shard.close()
            raise StoreLockedError(held)
        self._files.sweep(name, generation)
        self._files.sign(name)
        return OpenShard(shard, generation, is_linked(shard))

    async def discard(self, name: str) -> None:
        """Closes a shard whose collection is about to be deleted, once no call uses it.

        Raises:
            StoreLockedError: another process holds it.
        """
        while (held := await self._opened(name)).calls:
            await held.unused.wait()
        self._open.pop(name).shard.close()

    def release(self, keep: Collection[str], idle_s: float) -> list[str]:
        """Closes the shards of collections that are not in `keep`, that no call uses and none has for `idle_s`."""
        since = time.monotonic() - idle_s
        found = [
            name
            for name, held in self._open.items()
            if name not in keep and not held.calls and held.last_used <= since
        ]
        for name in found:
            self._close(name)
        return found

    def close(self) -> None:
        """Closes every shard; its lock is free then."""
        for name in list(self._open):
            self._close(name)

    async def _opened(self, name: str) -> OpenShard:
        deadline = time.monotonic() + self._lock_timeout_s
        while name not in self._open:
            try:
                self._open[name] = self.load(name)
            except StoreLockedError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(RETRY_PAUSE_S)
        return self._open[name]

    def _close(self, name: str) -> None:
        held = self._open.pop(name)
        if self._files.exists(name):  # for those who ask while another process holds it
            self._files.write_metadata(name, {**self._files.metadata(name), "count": held.count()})
        held.shard.flush()
        held.shard.close()

    def _generation(self, name: str) -> int:
        return int(self._files.metadata(name).get("generation", 1))
