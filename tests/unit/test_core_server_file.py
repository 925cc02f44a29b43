"""`STORE/server.json`: a running server is found, a dead one is not, whatever became of its process number."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search_core.server_file import FILE_NAME, RunningServer, find_server, process_start
from search_core.settings import StoreSettings


@pytest.fixture
def process():
    """Some other process that lives as long as the test."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as it:
        yield it
        it.kill()


def held(path: Path, qdrant_url: str | None = None) -> StoreSettings:
    return StoreSettings(path=path, qdrant_url=qdrant_url)


def server_of(pid: int) -> RunningServer:
    return RunningServer(pid, process_start(pid) or "", "http://127.0.0.1:8000", "127.0.0.1:6379")


def test_a_running_server_is_found(tmp_path, process):
    server = server_of(process.pid)
    server.write(held(tmp_path / "store"))
    assert find_server(held(tmp_path / "store")) == server


def test_without_a_file_there_is_no_server(tmp_path):
    assert find_server(held(tmp_path)) is None


def test_a_dead_server_is_ignored(tmp_path, process):
    server_of(process.pid).write(held(tmp_path))
    process.kill()
    process.wait()
    assert find_server(held(tmp_path)) is None


def test_a_killed_server_that_nobody_has_waited_for_is_dead(tmp_path, process):
    server_of(process.pid).write(held(tmp_path))
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert find_server(held(tmp_path)) is None


def test_a_process_number_used_again_is_not_the_server(tmp_path, process):
    dataclasses.replace(server_of(process.pid), started="1").write(held(tmp_path))
    assert find_server(held(tmp_path)) is None


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "{}", '{"pid": 1}', '{"pid": "x", "started": "1", "url": "", "ray_address": ""}'],
)
def test_a_damaged_file_is_no_server(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(text)
    assert find_server(held(tmp_path)) is None


def test_a_file_of_another_version_is_no_server(tmp_path, process):
    values = dataclasses.asdict(server_of(process.pid))
    (tmp_path / FILE_NAME).write_text(json.dumps({**values, "surprise": 1}))
    assert find_server(held(tmp_path)) is None


def test_only_the_server_itself_withdraws_its_file(tmp_path, process):
    server_of(process.pid).write(held(tmp_path))
    RunningServer.remove(held(tmp_path))
    assert find_server(held(tmp_path)) is not None
    server_of(os.getpid()).write(held(tmp_path))
    RunningServer.remove(held(tmp_path))
    assert list(tmp_path.iterdir()) == []
    RunningServer.remove(held(tmp_path))


def test_two_processes_with_the_same_number_would_differ_by_their_start():
    assert process_start(os.getpid()) == process_start(os.getpid())
    assert process_start(os.getpid()) != process_start(1)
    assert process_start(2**22 + 1) is None


QDRANT = "http://a:6333,http://b:6333"


def test_a_server_of_vectors_in_qdrant_is_not_the_one_of_the_embedded_store(tmp_path, process):
    ours, theirs = server_of(process.pid), server_of(os.getpid())
    theirs.write(held(tmp_path, QDRANT))
    assert find_server(held(tmp_path)) is None
    ours.write(held(tmp_path))
    assert find_server(held(tmp_path)) == ours
    assert find_server(held(tmp_path, QDRANT)) == theirs
    RunningServer.remove(held(tmp_path, QDRANT))
    assert find_server(held(tmp_path, QDRANT)) is None
    assert find_server(held(tmp_path)) == ours


@pytest.mark.parametrize(
    "url", ["http://user:word@B:6333/, http://a:6333#grpc=6434", "http://b:6333,http://a:6333"]
)
def test_a_qdrant_server_may_be_written_in_several_ways(tmp_path, process, url):
    server_of(process.pid).write(held(tmp_path, QDRANT))
    assert find_server(held(tmp_path, url)) is not None


def test_another_qdrant_server_is_another_store(tmp_path, process):
    server_of(process.pid).write(held(tmp_path, QDRANT))
    assert find_server(held(tmp_path, "http://a:6333")) is None
