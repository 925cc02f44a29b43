"""`STORE/server.json`: a running server is found, a dead one is not, whatever became of its process number."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest

from search_core.server_file import FILE_NAME, RunningServer, find_server, process_start


@pytest.fixture
def process():
    """Some other process that lives as long as the test."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as it:
        yield it
        it.kill()


def server_of(pid: int) -> RunningServer:
    return RunningServer(pid, process_start(pid) or "", "http://127.0.0.1:8000", "127.0.0.1:6379")


def test_a_running_server_is_found(tmp_path, process):
    server = server_of(process.pid)
    server.write(tmp_path / "store")
    assert find_server(tmp_path / "store") == server


def test_without_a_file_there_is_no_server(tmp_path):
    assert find_server(tmp_path) is None


def test_a_dead_server_is_ignored(tmp_path, process):
    server_of(process.pid).write(tmp_path)
    process.kill()
    process.wait()
    assert find_server(tmp_path) is None


def test_a_killed_server_that_nobody_has_waited_for_is_dead(tmp_path, process):
    server_of(process.pid).write(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert find_server(tmp_path) is None


def test_a_process_number_used_again_is_not_the_server(tmp_path, process):
    dataclasses.replace(server_of(process.pid), started="1").write(tmp_path)
    assert find_server(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "{}", '{"pid": 1}', '{"pid": "x", "started": "1", "url": "", "ray_address": ""}'],
)
def test_a_damaged_file_is_no_server(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(text)
    assert find_server(tmp_path) is None


def test_a_file_of_another_version_is_no_server(tmp_path, process):
    values = dataclasses.asdict(server_of(process.pid))
    (tmp_path / FILE_NAME).write_text(json.dumps({**values, "surprise": 1}))
    assert find_server(tmp_path) is None


def test_only_the_server_itself_withdraws_its_file(tmp_path, process):
    server_of(process.pid).write(tmp_path)
    RunningServer.remove(tmp_path)
    assert find_server(tmp_path) is not None
    server_of(os.getpid()).write(tmp_path)
    RunningServer.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []
    RunningServer.remove(tmp_path)


def test_two_processes_with_the_same_number_would_differ_by_their_start():
    assert process_start(os.getpid()) == process_start(os.getpid())
    assert process_start(os.getpid()) != process_start(1)
    assert process_start(2**22 + 1) is None
