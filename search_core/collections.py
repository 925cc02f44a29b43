"""The life of collections behind an alias: which to resume, publish, roll back to or drop."""

from __future__ import annotations

import time
from typing import Any

from search_core.errors import NotFoundError, UsageError
from search_core.model import ModelSpec
from search_core.store import Collection, Store, belongs_to


async def unfinished(store: Store, alias: str, spec: ModelSpec) -> Collection | None:
    """The newest collection of this alias and model whose first index was interrupted."""
    found = [
        collection
        for collection in await store.collections()
        if belongs_to(alias, collection.name)
        and collection.state == "building"
        and collection.fingerprint == spec.fingerprint
    ]
    return found[-1] if found else None


def run_ended(quarantined: int) -> dict[str, Any]:
    """What a run notes on its collection when it ends, whether it changed anything or not: when that was, and how many
    pictures are in the quarantine.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"checked": now, "quarantined": quarantined}


async def publish(store: Store, alias: str, name: str) -> None:
    """Makes `name` the collection that readers of `alias` see, and remembers which one it replaced.

    It is ready once readers see it, so that a run that is interrupted in between goes on with it. Calling again for
    the published one finishes what was interrupted.
    """
    before = (await store.aliases()).get(alias)
    if before != name:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        await store.annotate(name, {"published": now, "replaced": before})
        await store.publish(alias, name)
    if (await store.describe(name)).state != "ready":
        await store.annotate(name, {"state": "ready"})


async def rollback(store: Store, alias: str) -> str:
    """Points `alias` back at the collection that the present one replaced; returns its name.

    Raises:
        NotFoundError: nothing is published, nothing was replaced, or what was replaced is gone.
    """
    current = (await store.aliases()).get(alias)
    if current is None:
        raise NotFoundError(f"no collection {alias!r} is published")
    before = (await store.describe(current)).metadata.get("replaced")
    if not before:
        raise NotFoundError(f"collection {alias!r} has no earlier version to roll back to")
    await store.describe(before)
    await publish(store, alias, current)  # where that was interrupted
    await store.publish(alias, before)
    return str(before)


async def prune(store: Store, alias: str, keep: int) -> list[str]:
    """Drops replaced collections of an alias, but for the one that `rollback` goes to and the newest, `keep` in all.

    Unfinished ones stay, as an index run may be writing them. Returns the names that were dropped.
    """
    aliases = await store.aliases()
    found = await store.collections()
    replaced = [
        collection
        for collection in found
        if belongs_to(alias, collection.name)
        and collection.state == "ready"
        and collection.name not in aliases.values()
    ]
    target = next((c.metadata.get("replaced") for c in found if c.name == aliases.get(alias)), None)
    replaced.sort(key=lambda c: (c.name == target, str(c.metadata.get("published")), c.name), reverse=True)
    dropped = [collection.name for collection in replaced[keep:]]
    for name in dropped:
        await store.drop(name)
    return dropped


async def drop(store: Store, alias: str, name: str) -> None:
    """Deletes a collection that no alias names.

    Raises:
        UsageError: it is published.
    """
    if name in (await store.aliases()).values():
        raise UsageError(f"collection {name} is published: publish another or roll back first")
    await store.drop(name)
