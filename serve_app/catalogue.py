"""Which collection a name stands for, remembered for a moment so that a query costs one call to the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from search_core.compose import Means
from search_core.errors import NotFoundError
from search_core.store import Collection, Store, published

REMEMBER_S = 1.0


@dataclass(frozen=True)
class _Remembered:
    collection: Collection
    until: float


class Catalogue:
    """Resolves aliases and collection names; what it says is at most `remember_s` old."""

    def __init__(
        self,
        store: Store,
        alias: str,
        *,
        remember_s: float = REMEMBER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self.alias = alias
        self._remember_s = remember_s
        self._clock = clock
        self._known: dict[str, _Remembered] = {}

    async def resolve(self, name: str | None) -> Collection:
        """The collection of this alias or full name; the published one for None.

        Raises:
            NothingPublishedError: no name was given and nothing is published yet.
            NotFoundError: there is no collection of that name.
        """
        key = name or self.alias
        known = self._known.get(key)
        if known is not None and self._clock() < known.until:
            return known.collection
        collection = await self._look_up(key)
        self._known[key] = _Remembered(collection, self._clock() + self._remember_s)
        return collection

    def forget(self) -> None:
        """Asks the store again next time: something was written, or a collection went away."""
        self._known.clear()

    def follow(self, alias: str) -> None:
        """Takes another alias for the published collection."""
        self.alias = alias
        self.forget()

    async def _look_up(self, key: str) -> Collection:
        if key == self.alias:
            return await published(self._store, key)
        name = (await self._store.aliases()).get(key, key)
        try:
            return await self._store.describe(name)
        except NotFoundError:
            raise NotFoundError(f"no collection {key!r}") from None


def means_of(collection: Collection) -> Means | None:
    """The mean vectors that were measured while indexing, if they were."""
    means = collection.metadata.get("means")
    if not means:
        return None
    return Means(np.asarray(means["text"], dtype=np.float32), np.asarray(means["image"], dtype=np.float32))
