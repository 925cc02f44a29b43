"""`image-search search` by way of a server that is just starting."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cli import searching
from search_core.errors import StoreUnavailableError, UsageError
from search_core.server_file import RunningServer, process_start
from search_core.settings import Settings, StoreSettings

HITS = [{"id": "1", "score": 0.5}]


class Starting(BaseHTTPRequestHandler):
    """Answers like Ray's proxy before it knows a route, and then like the API."""

    answers: list[tuple[int, str]]
    asked: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        status, body = self.answers.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def settings(tmp_path) -> Iterator[Settings]:
    """Of a store whose server is this process, at an address that gives `Starting.answers`."""
    Starting.asked = []
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


def test_a_picture_is_sent_as_it_is(settings, tmp_path):
    picture = tmp_path / "a.jpg"
    picture.write_bytes(bytes(range(256)) * 40_000)
    Starting.answers = [(200, json.dumps({"hits": HITS}))] * 2
    assert searching.run(settings, text="red", image=picture, without="blue", limit=3) == HITS
    assert searching.run(settings, text=None, image=picture, without=None, limit=3) == HITS
    for (path, body), terms in zip(Starting.asked, ([["red", 1.0], ["blue", -0.5]], []), strict=True):
        assert path == "/api/search/image"
        assert picture.read_bytes() in body
        query = json.loads(re.search(rb'name="query"\r\n\r\n(.*)\r\n', body)[1])
        assert [[term["text"], term.get("weight", 1.0)] for term in query["terms"]] == terms
        assert query["limit"] == 3


def test_one_limit_for_pictures_with_a_server_and_without(settings, tmp_path):
    settings = settings.changed({"serve": {"max_upload_mb": 0.001}})
    picture = tmp_path / "a.jpg"
    picture.write_bytes(bytes(1_001))
    with pytest.raises(UsageError, match=r"a\.jpg is larger than the limit of 0\.001 MB for a search"):
        searching.run(settings, text=None, image=picture, without=None, limit=3)
    assert Starting.asked == []
