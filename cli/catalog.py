"""`image-search collections`: list, publish, rollback, drop."""

from __future__ import annotations

import asyncio
from typing import Any

from cli.stores import command_store
from search_core import collections
from search_core.errors import GateError, UsageError
from search_core.settings import Settings
from search_core.store import belongs_to


def list_all(settings: Settings) -> list[dict[str, Any]]:
    """All collections, oldest first."""

    async def run() -> list[dict[str, Any]]:
        async with command_store(settings) as store:
            published = {name: alias for alias, name in (await store.aliases()).items()}
            return [
                {
                    "name": collection.name,
                    "state": collection.state,
                    "published_as": published.get(collection.name),
                    "count": collection.count,
                    "model": collection.spec.name,
                    "fingerprint": collection.fingerprint,
                    "created": collection.metadata.get("created"),
                }
                for collection in await store.collections()
            ]

    return asyncio.run(run())


def to_text(rows: list[dict[str, Any]]) -> str:
    """A line for each collection."""
    if not rows:
        return "no collections yet: run `image-search index SOURCE`"
    return "\n".join(
        f"{row['name']}  {row['count']} pictures  {row['model']}  "
        + (f"published as {row['published_as']}" if row["published_as"] else row["state"])
        for row in rows
    )


def publish(settings: Settings, name: str, *, force: bool) -> None:
    """Makes `name` the collection that readers see; with `force` also one that was refused at the gate.

    Raises:
        UsageError: it was made for another name, or its first index has not finished.
        GateError: it was refused.
    """

    async def run() -> None:
        alias = settings.store.collection
        async with command_store(settings) as store:
            collection = await store.describe(name)
            if not belongs_to(alias, name):
                raise UsageError(
                    f"collection {name} was not made for {alias!r}: name its own with --collection"
                )
            verdicts = collection.metadata.get("gate", [])
            if collection.state != "ready" and not verdicts:
                raise UsageError(f"collection {name} is unfinished: run its `image-search index` again")
            failed = "; ".join(f"{v['check']}: {v['detail']}" for v in verdicts if not v["passed"])
            if collection.state != "ready" and failed and not force:
                raise GateError(f"collection {name} was refused, {failed}: --force publishes it as it is")
            await collections.publish(store, alias, name)

    asyncio.run(run())


def rollback(settings: Settings) -> str:
    """Points readers back at the collection that the present one replaced; returns its name."""

    async def run() -> str:
        async with command_store(settings) as store:
            return await collections.rollback(store, settings.store.collection)

    return asyncio.run(run())


def drop(settings: Settings, name: str) -> None:
    """Deletes a collection that is not published."""

    async def run() -> None:
        async with command_store(settings) as store:
            await collections.drop(store, settings.store.collection, name)

    asyncio.run(run())
