"""`image-search status`: what there is, what the last run did, what failed, and who serves."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from batch_index.quarantine import Quarantine
from cli.stores import command_store
from search_core.server_file import find_server
from search_core.settings import Settings

SHOWN_FAILURES = 20
RUN_COUNTS = ("seen", "added", "updated", "moved", "unchanged", "deleted", "quarantined")


def gather(settings: Settings) -> dict[str, Any]:
    """The status as plain JSON values."""
    return asyncio.run(_gather(settings))


async def _gather(settings: Settings) -> dict[str, Any]:
    async with command_store(settings) as store:
        published = (await store.aliases()).get(settings.store.collection)
        found = await store.collections()
    server = find_server(settings.store)
    return {
        "store": settings.store.qdrant_url or str(settings.store.path),
        "collection": settings.store.collection,
        "published": published,
        "server": asdict(server) if server else None,
        "collections": [
            {
                "name": collection.name,
                "state": collection.state,
                "count": collection.count,
                "model": collection.spec.name,
                "fingerprint": collection.fingerprint,
                "last_run": collection.metadata.get("last_run"),
                "quarantine": [
                    {"uri": f.uri, "reason": f.reason, "error": f.error, "time": f.time.isoformat()}
                    for f in Quarantine(Quarantine.path_of(settings.store.path, collection.name)).failures()
                ],
            }
            for collection in found
        ],
    }


def to_text(status: dict[str, Any]) -> str:
    """The status in words."""
    lines = [f"store: {status['store']}"]
    server = status["server"]
    lines.append(
        f"server: {server['url']} (process {server['pid']})" if server else "server: none is running"
    )
    if not status["collections"]:
        lines.append("no collections yet: run `image-search index SOURCE`")
    for row in status["collections"]:
        mark = f"published as {status['collection']}" if row["name"] == status["published"] else row["state"]
        lines.append(f"{row['name']}: {row['count']} pictures, model {row['model']}, {mark}")
        if last := row["last_run"]:
            counts = ", ".join(f"{last[name]} {name}" for name in RUN_COUNTS if last.get(name))
            lines.append(f"  last run that changed it, {last.get('ended', 'unknown when')}: {counts}")
        lines += [
            f"  quarantined ({f['reason']}): {f['uri']}: {f['error']}"
            for f in row["quarantine"][:SHOWN_FAILURES]
        ]
        if len(row["quarantine"]) > SHOWN_FAILURES:
            lines.append(f"  and {len(row['quarantine']) - SHOWN_FAILURES} more (--json shows all)")
    return "\n".join(lines)
