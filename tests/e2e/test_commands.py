"""The command line and HTTP together: what users type, and what happens while a server runs."""

from __future__ import annotations

import re
import shutil
import signal
import threading
from pathlib import Path

import httpx
import pytest

from tests.e2e.product import SAMPLES, Product
from tests.fixtures.ports import free_port


def test_a_second_index_run_changes_nothing(product: Product, url: str) -> None:
    report = product.json("index", str(SAMPLES))
    assert report["unchanged"] == report["seen"]
    assert report["embedded"] == 0


def test_search_by_command_and_by_http_agree(product: Product, url: str) -> None:
    by_command = product.json("search", "a guitar", "-k", "5")
    answer = httpx.get(f"{url}/api/search", params={"q": "a guitar", "limit": 5}, timeout=30)
    by_http = answer.json()["hits"]
    assert [hit["id"] for hit in by_command] == [hit["id"] for hit in by_http]
    assert any("guitar" in hit["payload"]["caption"].lower() for hit in by_http)


def test_pushing_away_moves_results(product: Product, url: str) -> None:
    plain = product.json("search", "a fruit", "-k", "10")
    without = product.json("search", "a fruit", "--not", "something red", "-k", "10")
    assert [hit["id"] for hit in plain] != [hit["id"] for hit in without]


def test_search_goes_on_while_an_index_job_runs_beside_the_server(
    product: Product, url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "more"
    shutil.copytree(SAMPLES / "images" / "animals", folder)
    before = httpx.get(f"{url}/api/status", timeout=30).json()
    failures: list[str] = []
    answered = 0
    done = threading.Event()

    def search() -> None:
        nonlocal answered
        with httpx.Client(base_url=url, timeout=60) as client:
            while not done.is_set():
                answer = client.get("/api/search", params={"q": f"an animal {answered}"})
                if answer.status_code != httpx.codes.OK or not answer.json()["hits"]:
                    failures.append(answer.text)
                answered += 1

    thread = threading.Thread(target=search)
    thread.start()
    try:
        report = product.json("index", str(folder))
    finally:
        done.set()
        thread.join()
    assert not failures
    assert answered > 1
    assert report["added"] == report["seen"] == len(list(folder.iterdir()))
    hits = httpx.get(f"{url}/api/search", params={"q": "an elephant", "limit": 40}, timeout=30).json()
    assert hits["total_indexed"] > report["added"]
    assert any(str(folder) in hit["uri"] for hit in hits["hits"]), before
    shutil.rmtree(folder)
    folder.mkdir()
    removed = product.json("index", str(folder), str(SAMPLES), "--delete-missing")
    assert removed["deleted"] == report["added"]


def test_a_second_server_on_the_store_is_refused(product: Product, url: str) -> None:
    port = httpx.URL(url).port
    line = product.run("serve", "--port", str(port), code=2)
    assert len(line.strip().splitlines()) == 1
    assert "served already" in line


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([""], 1, "blank"),
        (["word " * 10_000], 1, "at most"),
        (["--image", "missing.jpg"], 2, "missing.jpg cannot be read"),
        (["--image", __file__], 1, "picture"),
        ([], 2, "say what to search for"),
    ],
    ids=["blank", "long", "missing", "broken", "nothing"],
)
def test_a_search_that_cannot_be_is_one_line(
    product: Product, url: str, words: list[str], code: int, says: str
) -> None:
    (line,) = product.run("search", *words, code=code).splitlines()
    assert line.startswith("image-search: ")
    assert says in line


def test_a_port_that_is_taken_is_one_line(url: str, tmp_path: Path) -> None:
    port = str(httpx.URL(url).port)
    (line,) = Product(tmp_path / "store").run("serve", "--port", port, code=2).splitlines()
    assert line.startswith(f"image-search: port {port} on 127.0.0.1 is in use")


def test_status_names_the_server(product: Product, url: str) -> None:
    status = product.json("status")
    assert status["server"]["url"] == url
    assert [row["state"] for row in status["collections"]] == ["ready"]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_stopping_an_index_run_leaves_no_process_and_a_usable_store(
    tmp_path: Path, number: signal.Signals
) -> None:
    product = Product(tmp_path / "store", model="fake")
    job = product.start("index", str(SAMPLES))
    while not list(product.store.glob("collections/*/holder.json")):  # its first batch is being written
        assert job.poll() is None, job.communicate()
    job.send_signal(number)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 1
    assert len(errors.splitlines()) == 1, errors
    product.assert_nothing_left()
    report = product.json("index", str(SAMPLES))
    assert report["added"] + report["unchanged"] == report["seen"]
    assert len(product.json("search", "red", "-k", "3")) == 3


def test_a_killed_server_can_be_started_again(tmp_path: Path) -> None:
    product = Product(tmp_path / "store", model="fake")
    server = product.start("demo", "--port", str(free_port()))
    assert server.stdout is not None
    assert "ready" in server.stdout.readline()
    server.kill()
    _, errors = server.communicate()
    assert re.search(r"^(\d+) pictures, \1 new\.$", errors, re.MULTILINE)
    with product.serving() as url:
        assert httpx.get(f"{url}/api/search", params={"q": "red"}, timeout=30).json()["hits"]
    product.assert_nothing_left()
