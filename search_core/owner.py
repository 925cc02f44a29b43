"""One Ray actor that holds the embedded store, so that many processes can use it; and the store seen through it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, cast

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search_core.edge import EdgeStore
from search_core.edge_files import Holder
from search_core.errors import StoreError, StoreUnavailableError
from search_core.settings import StoreSettings
from search_core.store import Store

NAMESPACE = "image-search"
OWNER_NAME = "edge-owner"
STORE_METHODS = frozenset(name for name in vars(Store) if not name.startswith("_"))
IDLE_S = 3.0
"""How long a shard that is not published stays open for the next call: a replaced one is searched until every
reader has moved on."""
LOOK_S = 1.0

logger = logging.getLogger(__name__)


class EdgeOwner:
    """The actor's body: an `EdgeStore` in an event loop of its own.

    With `releases` it closes shards that are not published once they are idle: what a publish or a rollback has
    replaced, and what somebody looked into by name. `holder` is the process that it ends with.
    """

    def __init__(self, settings: StoreSettings, holder: Holder, *, releases: bool = False) -> None:
        self._store = EdgeStore(settings, holder)
        self._releases = releases
        self._releasing: asyncio.Task[None] | None = None

    async def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls one of the store's methods."""
        if self._releases and self._releasing is None:  # there is no event loop before the first call
            self._releasing = asyncio.create_task(self._release())
        return await getattr(self._store, method)(*args, **kwargs)

    async def _release(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                for name in await self._store.release(IDLE_S):
                    logger.info("closed collection %s, which is not published any more", name)
            except (StoreError, OSError):
                logger.exception("shards that are not published cannot be closed")


class OwnedStore:
    """`search_core.store.Store` by way of an owner actor. May be pickled and used in any process of its Ray."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        if name not in STORE_METHODS:
            raise AttributeError(name)

        async def method(*args: Any, **kwargs: Any) -> Any:
            try:
                return await self._owner.call.remote(name, args, kwargs)
            except RayTaskError as error:
                raise error.cause from None
            except RayActorError:
                raise StoreUnavailableError(
                    "the process that holds the store has ended: start it again"
                ) from None

        return method

    def __reduce__(self) -> tuple[Any, ...]:
        return OwnedStore, (self._owner,)

    async def close(self) -> None:
        """Does nothing: the owner closes its store when it is stopped."""


def start_owner(settings: StoreSettings, name: str = OWNER_NAME, *, releases: bool = False) -> Store:
    """Starts the owner actor on this process's node; it ends with this process or with `stop_owner`.

    `releases` closes idle shards that are not published: for a server's owner, not for one that fills them.
    """
    settings = settings.model_copy(
        update={"path": settings.path.absolute()}
    )  # the actor has its Ray's working folder
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor_class = ray.remote(num_cpus=0, max_restarts=0)(EdgeOwner)
    options = {"name": name, "namespace": NAMESPACE, "scheduling_strategy": here}
    actor = actor_class.options(**options).remote(settings, Holder.this_process(), releases=releases)
    return cast(Store, OwnedStore(actor))


def find_owner(name: str = OWNER_NAME) -> Store:
    """The owner that this Ray already has.

    Raises:
        StoreUnavailableError: there is none.
    """
    try:
        return cast(Store, OwnedStore(ray.get_actor(name, namespace=NAMESPACE)))
    except ValueError:
        raise StoreUnavailableError("no process of this Ray holds the store") from None


def stop_owner(store: Store) -> None:
    """Closes the owner's store and ends its process, if it has not ended already."""
    owner = cast(OwnedStore, store)._owner
    with suppress(RayActorError):
        ray.get(owner.call.remote("close", (), {}))
    ray.kill(owner)
