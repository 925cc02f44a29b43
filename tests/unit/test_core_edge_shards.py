"""Open shards: none is closed under a call."""

from __future__ import annotations

import asyncio
from pathlib import Path

from search_core.edge import EdgeStore
from search_core.edge_files import EdgeFiles
from search_core.edge_shards import EdgeShards
from search_core.model import resolve_model
from search_core.settings import StoreSettings

NAME = "images__test__1"


async def test_a_shard_that_is_to_be_deleted_is_closed_after_its_last_call(tmp_path: Path) -> None:
    await EdgeStore(StoreSettings(path=tmp_path)).create(NAME, resolve_model("fake"))
    shards = EdgeShards(EdgeFiles(tmp_path), 0)
    async with shards.using(NAME) as held:
        async with shards.using(NAME):
            discarding = asyncio.create_task(shards.discard(NAME))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not discarding.done()
        assert held.count() == 0  # a closed one cannot be asked
    await discarding
    assert shards.find(NAME) is None
