"""The server as a process: how it refuses, stops, survives being killed, and serves a Qdrant server's collections."""

from __future__ import annotations

import signal
import socket
import threading
import time
from pathlib import Path

import httpx

from search_core.edge_files import EdgeFiles
from search_core.server_file import FILE_NAME, find_server
from search_core.settings import StoreSettings
from tests.fixtures.qdrant_server import QdrantServer
from tests.fixtures.served import Served


def test_a_server_that_was_killed_leaves_the_store_and_the_port_usable(tmp_path: Path) -> None:
    server = Served(StoreSettings(path=tmp_path / "store"))
    server.index()
    first = server.start()
    server.ready(first)
    announced = find_server(server.store)
    assert announced is not None
    assert (announced.pid, announced.url) == (first.pid, server.url)

    holder = EdgeFiles(server.store.path).holder(server.collection)
    assert holder.startswith(f"process {first.pid} (")  # it is an actor of its that has the shard open

    second = server.start()
    _, errors = second.communicate(timeout=120)
    assert second.returncode == 1
    assert errors.strip() == f"Error: this store is served already, at {server.url} (process {first.pid})"

    other = Served(StoreSettings(path=tmp_path / "other"), port=server.port)
    third = other.start()
    _, errors = third.communicate(timeout=120)
    assert third.returncode == 1
    assert f"port {server.port}" in errors
    assert len(errors.strip().splitlines()) == 1

    first.kill()
    first.communicate()
    assert (server.store.path / FILE_NAME).exists()
    assert find_server(server.store) is None

    again = server.start()
    server.ready(again)
    with server.client() as client:
        assert client.get("/ready").json()["total_indexed"] == 30
    server.stop(again, signal.SIGINT)
    assert not (server.store.path / FILE_NAME).exists()
    server.assert_nothing_left()


def test_a_server_before_its_first_index(tmp_path: Path) -> None:
    server = Served(StoreSettings(path=tmp_path / "store"))
    with server.running(), server.client() as client:
        for path in ("/ready", "/search?q=red"):
            response = client.get(path)
            assert response.status_code == 503
            assert response.json()["type"].endswith("not-ready")
        assert client.get("/health").status_code == 200
        assert client.get("/status").json()["collection"] is None
        assert httpx.get(server.url, timeout=60).status_code == 200


def test_stopping_while_it_starts(tmp_path: Path) -> None:
    server = Served(StoreSettings(path=tmp_path / "store"))
    process = server.start()
    while not _listens(server.port):  # the proxy does before the applications run
        assert process.poll() is None
        time.sleep(0.1)
    server.stop(process)
    server.assert_nothing_left()


def test_a_qdrant_server_that_goes_away_and_comes_back(tmp_path: Path, qdrant_server: QdrantServer) -> None:
    store = StoreSettings(
        path=tmp_path / "store", qdrant_url=qdrant_server.url, qdrant_grpc_port=qdrant_server.grpc_port
    )
    server = Served(store)
    server.index()
    with server.running(), server.client() as client:
        assert client.get("/status").json()["store"] == "qdrant"
        hits = client.get("/search", params={"q": "red", "limit": 3}).json()["hits"]
        assert {hit["id"] for hit in hits} == set(server.ids["red"])

        qdrant_server.stop()
        time.sleep(1.2)
        response = client.get("/search", params={"q": "red"})
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert qdrant_server.url not in response.text
        assert client.get("/health").status_code == 200
        qdrant_server.start()
        assert _recovers(client)


def _recovers(client: httpx.Client) -> bool:
    for _ in range(60):
        if client.get("/ready").status_code == httpx.codes.OK:
            return True
        threading.Event().wait(1)
    return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
