"""Where a run writes, and the processes that it needs for that.

A Qdrant server is asked from every process. The embedded store has one owner at a time: this process while a run
plans, an actor of the run's Ray while it writes; or the actor of a running server, whose Ray the run joins. What a
server does not show yet, a collection that is being built, is held by an actor of the run's own beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack

from batch_index.resources import require_room
from search_core.server_file import find_server
from search_core.settings import Settings
from search_core.store import Store
from search_core.stores import open_store


class Target:
    """See the module. `catalog` knows all collections, `store` writes to the run's; `dashboard` is a URL of Ray's,
    empty if there is none.
    """

    def __init__(self, settings: Settings, *, within_server: bool) -> None:
        """Opens the store, by way of the server that holds it if there is one.

        Raises:
            StoreUnavailableError: that server's Ray does not answer.
        """
        self._settings = settings
        self._embedded = settings.store.qdrant_url is None
        self._stack = ExitStack()
        self._own_owner: Store | None = None
        server = find_server(settings.store) if self._embedded else None
        self._address = server.ray_address if server else None
        self._served = server is not None or within_server
        self._builds_beside = server is not None and not within_server
        self._on_ray = within_server
        self.dashboard = ""
        if self._served:
            self._start_ray()
            from search_core.owner import find_owner

            self.catalog: Store = find_owner()
        else:
            self.catalog = open_store(settings.store)
        self.store = self.catalog

    def build_beside(self) -> None:
        """Takes the collection that is being built from whoever serves the published one."""
        if self._builds_beside and self._own_owner is None:
            self.store = self._start_owner()

    def require_room(self) -> None:
        """Brings Ray up where it may be too small for the settings, and finds out.

        Raises:
            ResourceError: it is too small.
        """
        index = self._settings.index
        if index.encoders > 1 or index.gpus_per_encoder:  # one encoder on a CPU fits anywhere
            self._start_ray()
            from batch_index.runtime import node_resources

            require_room(index, node_resources())

    async def prepare_to_write(self) -> None:
        """Brings Ray up, and gives an embedded store to an actor that all its processes can ask."""
        if self._served:
            return
        await self.catalog.close()
        self._start_ray()
        self.store = self._start_owner() if self._embedded else open_store(self._settings.store)
        self.catalog = self.store

    async def hand_over(self) -> None:
        """Lets go of a collection that was built beside a server, whose owner opens it next."""
        if self._builds_beside:
            self._stop_owner()
            self.store = self.catalog

    def opener(self) -> Callable[[], Store]:
        """Opens the store in another process of this Ray; holds no connection itself."""
        if self._embedded:
            store = self.store
            return lambda: store
        settings = self._settings.store
        return lambda: open_store(settings)

    async def close(self) -> None:
        """Releases everything, whatever happened."""
        with self._stack:
            try:
                self._stop_owner()
            finally:
                await self.catalog.close()

    def _start_ray(self) -> None:
        if not self._on_ray:
            from batch_index.runtime import ray_runtime

            self.dashboard = self._stack.enter_context(ray_runtime(self._address, self._settings.index))
            self._on_ray = True

    def _start_owner(self) -> Store:
        from search_core.owner import start_owner

        self._own_owner = start_owner(self._settings.store, f"edge-owner-{os.getpid()}")
        return self._own_owner

    def _stop_owner(self) -> None:
        if self._own_owner is not None:
            from search_core.owner import stop_owner

            owner, self._own_owner = self._own_owner, None
            stop_owner(owner)
