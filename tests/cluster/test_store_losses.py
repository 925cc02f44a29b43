"""Three Qdrant nodes that hold everything twice: one is killed, and those who search do not notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_core.settings import QdrantSettings
from tests.fixtures.load import load
from tests.fixtures.qdrant_cluster import QdrantCluster
from tests.fixtures.queries import of_all_kinds, red
from tests.fixtures.served import Served


@pytest.mark.long
@pytest.mark.parametrize("victim", [0, 2])
def test_a_node_of_the_store_is_lost(tmp_path: Path, victim: int) -> None:
    with QdrantCluster(tmp_path / "qdrant") as nodes:
        store = nodes.settings(
            tmp_path / "store", first=nodes.nodes[0], qdrant=QdrantSettings(shards=3, replicas=2)
        )
        server = Served(store)
        server.index()
        ids = server.ids["red"]
        with (
            server.running() as url,
            load([url], 6, of_all_kinds(ids), check=red(ids)) as running,
        ):
            running.until_answered(30)
            nodes.nodes[victim].kill()
            running.until_answered(200)
        assert not running.again, running.again
