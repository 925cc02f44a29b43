"""A store for one command: the running server's where there is one, else the store itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from search_core.server_file import find_server
from search_core.settings import Settings
from search_core.store import Store
from search_core.stores import open_store


@asynccontextmanager
async def command_store(settings: Settings) -> AsyncIterator[Store]:
    """The store, for as long as the context lasts.

    Raises:
        StoreError: it cannot be opened, or another process holds it.
    """
    server = find_server(settings.store) if settings.store.qdrant_url is None else None
    if server is None:
        store = open_store(settings.store)
        try:
            yield store
        finally:
            await store.close()
        return
    from batch_index.runtime import ray_runtime
    from search_core.owner import find_owner

    with ray_runtime(server.ray_address, settings.index):
        yield find_owner()
