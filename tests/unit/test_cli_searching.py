"""`image-search search` by way of a server that is just starting."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cli import searching
from search_core.errors import StoreUnavailableError
from search_core.server_file import RunningServer, process_start
from search_core.settings import Settings, StoreSettings

HITS = [{"id": "1", "score": 0.5}]


class Starting(BaseHTTPRequestHandler):
    """Answers like Ray's proxy before it knows a route, and then like the API."""

    answers: list[tuple[int, str]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = self.answers.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def settings(tmp_path) -> Iterator[Settings]:
    """Of a store whose server is this process, at an address that gives `Starting.answers`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Starting) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        store = StoreSettings(path=tmp_path)
        RunningServer(os.getpid(), process_start(os.getpid()) or "", url, "").write(store)
        yield Settings(store=store)
        server.shutdown()


def ask(settings: Settings) -> list[dict]:
    return searching.run(settings, text="red", image=None, without=None, limit=3)


def test_a_server_that_is_starting_is_waited_for(settings):
    early = (404, "Path '/api/search' not found. Please ping http://.../-/routes for route table.")
    Starting.answers = [early, early, (200, json.dumps({"hits": HITS}))]
    assert ask(settings) == HITS
    assert Starting.answers == []


def test_one_that_never_comes_is_one_line(settings, monkeypatch):
    monkeypatch.setattr(searching, "SERVER_START_S", 0.0)
    Starting.answers = [(404, "no")] * 5
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        ask(settings)
