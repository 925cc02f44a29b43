"""Pictures in tables, tars and lists, from the command line to the page: real Ray, a real web server, the fake model.

One store, and the tests run in the order of this file.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search_core.addresses import file_uri, join_inside
from tests.fixtures.commands import Commands
from tests.fixtures.containers import tar_of
from tests.fixtures.pictures import plain, put, unique
from tests.fixtures.processes import until
from tests.fixtures.qdrant_server import free_ports
from tests.fixtures.web_server import Answer, WebServer, web_server

pytestmark = pytest.mark.timeout(600)
ROWS, GROUP = 5, 2
SAME = unique(1)
"""In a row of the table and in the tar: embedded once."""
CHANGES = ("added", "updated", "moved", "unchanged", "deleted", "quarantined", "embedded")


def stated(data: bytes) -> tuple[int, str]:
    """Size and MD5 as a list of Open Images states them."""
    return len(data), base64.b64encode(hashlib.md5(data).digest()).decode()


class World:
    """Five sources and what is to be found in them, and commands with and without leave to ask this machine."""

    def __init__(self, folder: Path, web: WebServer) -> None:
        self.folder = folder
        self.web = web
        self.table = folder / "table.parquet"
        self.tar = folder / "shard-000.tar"
        self.urls = folder / "urls.parquet"
        self.list = folder / "list.txt"
        self.tsv = folder / "open images.tsv"
        self.sources = (self.table, self.tar, self.urls, self.list, self.tsv)
        where = ("--store", str(folder / "store"))
        self.strict = Commands(folder, *where)
        self.run = Commands(
            folder, *where, IMAGE_SEARCH_SOURCE__ALLOW_PRIVATE_URLS="true", IMAGE_SEARCH_SOURCE__RETRIES="0"
        )
        self.write_table([f"caption {number}" for number in range(ROWS)])
        self.write_tar()
        self.listed = self.write_lists()

    def write_table(self, captions: list[str]) -> None:
        """Rows of bytes as Hugging Face has them, with captions and other columns."""
        count = len(captions)
        pictures = [{"bytes": unique(number), "path": f"{number}.png"} for number in range(count)]
        columns = {
            "image": pictures,
            "caption": captions,
            "licence": ["CC0"] * count,
            "year": list(range(2000, 2000 + count)),
            "bytes": ["ours has this name too"] * count,
            "embedding": [[0.5, 0.5]] * count,
        }
        pq.write_table(pa.table(columns), self.table, row_group_size=GROUP)

    def write_tar(self) -> None:
        """WebDataset samples."""
        described = json.dumps({"caption": "from the JSON", "rating": 4.5, "tags": ["a", "b"]}).encode()
        members = {
            "a/000.jpg": plain((200, 30, 40), format="JPEG"),
            "a/000.txt": b"from the text\n",
            "a/000.json": described,
            "a/001.png": SAME,
        }
        self.tar.write_bytes(tar_of(members))

    def write_lists(self) -> dict[str, str]:
        """A table of URLs, a plain list and one with sizes and hashes; gives the URLs by what is behind them."""
        bodies = {
            name: unique(100 + number) for number, name in enumerate(("column", "line", "true", "target"))
        }
        listed = {
            name: self.web.url(f"{name}%20picture.png?v=1", Answer(body)) for name, body in bodies.items()
        }
        listed["redirect"] = self.web.url(
            "moved", Answer(status=302, headers={"Location": listed.pop("target")})
        )
        listed["gone"] = self.web.url("gone", Answer(status=404))
        listed["short"] = self.web.url("short", Answer(unique(110)))
        listed["forged"] = self.web.url("forged", Answer(unique(111)))
        rows = {"url": [listed["column"], None], "alt_text": ["beside the URL", "no URL"], "nr": [7, 8]}
        pq.write_table(pa.table(rows), self.urls)
        self.list.write_text(f"# two\n{listed['line']}\n\n{listed['redirect']}\n{listed['gone']}\n")
        size, _ = stated(unique(110))
        _, forged = stated(unique(112))
        lines = [
            (listed["true"], *stated(bodies["true"])),
            (listed["short"], size + 1, ""),
            (listed["forged"], len(unique(111)), forged),
        ]
        self.tsv.write_text("TsvHttpData-1.0\n" + "".join(f"{u}\t{s}\t{m}\n" for u, s, m in lines))
        return listed

    def row(self, number: int) -> str:
        return join_inside(file_uri(self.table), f"{number // GROUP}.{number % GROUP}")

    def member(self, name: str) -> str:
        return join_inside(file_uri(self.tar), name)

    def inside(self) -> set[str]:
        return {*map(self.row, range(ROWS)), self.member("a/000.jpg"), self.member("a/001.png")}

    def payloads(self) -> dict[str, dict[str, Any]]:
        """Of everything that is found, by address."""
        return {hit["uri"]: hit["payload"] for hit in self.run.light("search", "red", "-k", "100")}

    def quarantine(self) -> dict[str, tuple[str, str]]:
        """Reason and error by address."""
        (row,) = self.run.light("status")["collections"]
        return {failure["uri"]: (failure["reason"], failure["error"]) for failure in row["quarantine"]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with web_server() as web:
        yield World(tmp_path_factory.mktemp("sources"), web)


def changes(report: dict[str, Any]) -> dict[str, int]:
    return {name: report[name] for name in CHANGES if report[name]}


def test_pictures_inside_files_are_indexed_and_this_machine_is_not_asked_without_leave(world: World) -> None:
    foreseen = world.strict.light("index", *world.sources, "--dry-run")
    total = len(world.inside()) + len(world.listed)
    assert (foreseen["seen"], changes(foreseen)) == (total, {"added": total})
    report = world.strict.json("index", *world.sources)
    assert report["seen"] == total
    assert changes(report) == {
        "added": len(world.inside()),
        "embedded": len(world.inside()) - 1,
        "quarantined": len(world.listed),
    }
    assert set(world.payloads()) == world.inside()
    refused = ("refused", "the URL points at an address that is not public")
    assert world.quarantine() == dict.fromkeys(world.listed.values(), refused)
    assert world.web.asked == []


def test_urls_come_in_once_they_are_allowed_and_lying_ones_are_quarantined(world: World) -> None:
    held = world.run.light("index", *world.sources, "--dry-run")  # what failed is not tried again unasked
    assert changes(held) == {"unchanged": len(world.inside()), "quarantined": len(world.listed)}
    report = world.run.json("index", *world.sources, "--retry-quarantined")
    lying = {"short", "forged", "gone"}
    good = {world.listed[name] for name in world.listed if name not in lying}
    assert changes(report) == {
        "added": len(good),
        "embedded": len(good),
        "unchanged": len(world.inside()),
        "quarantined": len(lying),
    }
    assert set(world.payloads()) == world.inside() | good
    _, md5 = stated(unique(111))
    assert world.quarantine() == {
        world.listed["gone"]: ("missing", "the URL answered 404"),
        world.listed["short"]: (
            "wrong_size",
            f"the URL gave {len(unique(110))} bytes, not the {len(unique(110)) + 1} of the list",
        ),
        world.listed["forged"]: (
            "wrong_md5",
            f"the URL gave bytes of MD5 {md5}, not {stated(unique(112))[1]}",
        ),
    }
    assert world.web.times("column%20picture.png?v=1") == 1
    world.run.assert_nothing_left()


def test_a_second_run_finds_everything_as_it_was_and_asks_no_one(world: World) -> None:
    asked = len(world.web.asked)
    report = world.run.light("index", *world.sources)
    assert changes(report) == {"unchanged": len(world.payloads()), "quarantined": 3}
    assert len(world.web.asked) == asked


def test_captions_and_columns_come_along(world: World) -> None:
    found = world.payloads()
    row = found[world.row(3)]
    assert (row["caption"], row["licence"], row["year"]) == ("caption 3", "CC0", 2003)
    assert (row["bytes"], row["source_bytes"]) == (len(unique(3)), "ours has this name too")
    assert (row["folder"], row["file_name"], row["format"]) == ("table.parquet", "1.1", "png")
    assert "embedding" not in row
    assert "image" not in row
    member = found[world.member("a/000.jpg")]
    assert member["captions"] == ["from the text", "from the JSON"]
    assert (member["rating"], member["tags"], member["format"]) == (4.5, ["a", "b"], "jpeg")
    assert (member["folder"], member["file_name"]) == ("shard-000.tar", "000.jpg")
    column = found[world.listed["column"]]
    assert (column["caption"], column["nr"], column["file_name"]) == (
        "beside the URL",
        7,
        "column picture.png",
    )


def test_pictures_are_served_back_from_where_they_are(world: World) -> None:
    (port,) = free_ports(1)
    server = world.run.start("serve", "--port", str(port))
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
            until(lambda: _is_ready(http) or server.poll() is not None)
            hits = http.get("/api/search", params={"q": "red", "limit": 100}).json()["hits"]
            by_uri = {hit["uri"]: hit for hit in hits}
            row = http.get(by_uri[world.row(3)]["image_url"])
            assert (row.content, row.headers["content-type"]) == (unique(3), "image/png")
            assert http.get(by_uri[world.member("a/001.png")]["image_url"]).content == SAME
            thumbnail = http.get(by_uri[world.member("a/000.jpg")]["thumbnail_url"])
            assert thumbnail.headers["content-type"].startswith("image/")
            elsewhere = http.get(by_uri[world.listed["true"]]["image_url"])
            assert (elsewhere.is_redirect, elsewhere.headers["location"]) == (True, world.listed["true"])
    finally:
        server.terminate()
        server.communicate(timeout=120)
    world.run.assert_nothing_left()


def _is_ready(http: httpx.Client) -> bool:
    try:
        return http.get("/api/ready").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def test_a_table_written_anew_is_brought_up_to_date_without_embedding(world: World) -> None:
    before = world.payloads()
    world.write_table([f"other {number}" for number in range(ROWS - 1)])
    report = world.run.json("index", world.table, world.list, "--delete-missing")
    assert changes(report) == {"updated": ROWS - 1, "deleted": 1, "unchanged": 2, "quarantined": 1}
    after = world.payloads()
    assert set(after) == set(before) - {world.row(ROWS - 1)}
    assert [after[world.row(number)]["caption"] for number in range(ROWS - 1)] == [
        f"other {number}" for number in range(ROWS - 1)
    ]


def test_a_folder_that_holds_a_broken_table_is_one_line(world: World, tmp_path: Path) -> None:
    put(tmp_path, "tables/broken.parquet", b"PAR1 no more")
    line = world.run.refused("index", tmp_path / "tables")
    assert line.startswith(f"{file_uri(tmp_path / 'tables/broken.parquet')} cannot be read: ")
