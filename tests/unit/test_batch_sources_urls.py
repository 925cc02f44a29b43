"""Pictures on the web: fetched politely, again where that helps, verified, and never from inside. No test waits."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from batch_index.sources import Reader, open_source
from search_core import fetch
from search_core.errors import FetchError, ImageError
from search_core.fetch import retry_after_s
from search_core.polite import PoliteFetcher
from search_core.settings import ImageSettings, SourceSettings
from tests.fixtures.pictures import put, unique
from tests.fixtures.web_server import Answer, WebServer, web_server

DATA = unique(1)
GOOD = Answer(DATA)
MD5 = base64.b64encode(hashlib.md5(DATA, usedforsecurity=False).digest()).decode()


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


def settings(**changed: Any) -> SourceSettings:
    return SourceSettings(
        **{"allow_private_urls": True, "backoff_s": 0, "max_backoff_s": 0, "retries": 2, **changed}
    )


def read(*urls: str | tuple[str, str], max_image_mb: float = 1, **changed: Any) -> list[bytes | str]:
    items = [(url, "") if isinstance(url, str) else url for url in urls]
    found = Reader(settings(**changed), ImageSettings(max_image_mb=max_image_mb)).read(items)
    return [one.reason if isinstance(one, ImageError) else one for one in found]


def test_pictures_come_in_order_and_one_failure_costs_no_other(server):
    urls = [server.url(f"{n}.jpg", Answer(unique(n))) for n in range(40)]
    urls[7] = server.url("no.jpg", Answer(status=404))
    found = read(*urls, url_concurrency=4)
    assert found == [unique(n) if n != 7 else "missing" for n in range(40)]
    assert len(server.asked) == 40


def test_a_server_error_is_tried_again(server):
    urls = [server.url(f"{status}", Answer(status=status), GOOD) for status in (500, 502, 503, 504, 429, 408)]
    assert read(*urls) == [DATA] * 6
    assert len(server.asked) == 12


def test_it_is_tried_no_more_often_than_set(server):
    url = server.url("broken", Answer(status=500))
    assert read(url, retries=3) == ["unreachable"]
    assert server.times("broken") == 4
    assert read(url, retries=0) == ["unreachable"]
    assert server.times("broken") == 5


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, "missing"), (410, "missing"), (403, "refused"), (401, "refused"), (204, "refused")],
)
def test_what_will_not_pass_is_not_tried_again(server, status, reason):
    assert read(server.url("x", Answer(status=status))) == [reason]
    assert server.times("x") == 1


def test_a_connection_that_breaks_is_tried_again(server):
    assert read(server.url("x", Answer(hangs_up=True), GOOD)) == [DATA]
    assert read(server.url("y", Answer(hangs_up=True))) == ["unreachable"]
    assert (server.times("x"), server.times("y")) == (2, 3)


def test_a_server_that_stalls_is_left(server):
    stalling = Answer(DATA, stalls=True)
    assert read(server.url("x", stalling, GOOD), server.url("y", stalling), timeout_s=1) == [
        DATA,
        "unreachable",
    ]
    assert server.times("y") == 3


def test_a_length_that_is_a_lie_is_no_picture(server):
    longer = server.url("longer", Answer(DATA, length=len(DATA) + 10), GOOD)
    assert read(longer) == [DATA]
    assert server.times("longer") == 2
    shorter = server.url("shorter", Answer(DATA, length=len(DATA) - 10))
    assert read((shorter, f"size={len(DATA)}")) == ["wrong_size"]


def test_a_file_above_the_limit_is_not_taken(server):
    large = server.url("large", Answer(b"x" * 2_000))
    claimed = server.url("claimed", Answer(b"x", length=10**12))
    just = server.url("just", Answer(b"x" * 1_000))
    assert read(large, claimed, just, max_image_mb=0.001) == [
        "too_many_bytes",
        "too_many_bytes",
        b"x" * 1_000,
    ]
    assert server.times("claimed") == 1


def test_sizes_and_hashes_of_a_list_are_verified(server, tmp_path):
    other = base64.b64encode(hashlib.md5(b"other", usedforsecurity=False).digest()).decode()
    lines = [
        "TsvHttpData-1.0",
        f"{server.url('good', GOOD)}\t{len(DATA)}\t{MD5}",
        f"{server.url('size', GOOD)}\t{len(DATA) + 1}\t{MD5}",
        f"{server.url('md5', GOOD)}\t{len(DATA)}\t{other}",
        f"{server.url('bare', GOOD)}",
    ]
    path = put(tmp_path, "list.tsv", "\n".join(lines).encode())
    items = list(open_source(str(path), settings()).items())
    assert [item.version for item in items] == [MD5, MD5, other, ""]
    assert read(*((item.uri, item.expected) for item in items)) == [DATA, "wrong_size", "wrong_md5", DATA]
    assert len(server.asked) == 4  # another attempt would give the same


def test_private_addresses_are_refused_unless_allowed(server):
    url = server.url("x", GOOD)
    assert read(url, allow_private_urls=False) == ["refused"]
    assert server.asked == []
    assert read(url) == [DATA]


def test_a_redirect_inside_is_refused(server, monkeypatch):
    """127.0.0.1 counts as public here, so that the first hop is allowed; what it leads to is not."""
    public = fetch._is_public
    monkeypatch.setattr(fetch, "_is_public", lambda address: address == "127.0.0.1" or public(address))
    inside = server.url("inside", GOOD).replace("127.0.0.1", "127.0.0.2")
    redirect = server.url("x", Answer(status=302, headers={"Location": inside}))
    fine = server.url("y", Answer(status=302, headers={"Location": server.url("z", GOOD)}))
    assert read(redirect, fine, allow_private_urls=False) == ["refused", DATA]
    assert sorted(server.asked) == ["/x", "/y", "/z"]


def test_what_is_no_web_address_is_refused_and_no_host_is_not_there(server):
    assert read("http://", "http://nothing.invalid/a.jpg", server.url("x", GOOD)) == [
        "refused",
        "unreachable",
        DATA,
    ]


async def attempts(server: WebServer, url: str, **changed: Any) -> list[float]:
    """How long it waited before each further attempt."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async with PoliteFetcher(settings(**changed), 10**6, sleep) as fetcher:
        assert await fetcher.fetch(url, {}) == DATA
    return waited


async def test_waits_double_and_differ(server):
    url = server.url("x", *[Answer(status=503)] * 4, GOOD)
    waited = await attempts(server, url, retries=4, backoff_s=1, max_backoff_s=60)
    assert len(waited) == 4
    for attempt, seconds in enumerate(waited):
        assert 0.5 * 2**attempt <= seconds <= 1.5 * 2**attempt
    again = await attempts(
        server, server.url("y", *[Answer(status=503)] * 4, GOOD), retries=4, backoff_s=1, max_backoff_s=60
    )
    assert waited != again


async def test_the_wait_that_a_server_asks_for_is_kept_up_to_a_limit(server):
    busy = [Answer(status=429, headers={"Retry-After": value}) for value in ("7", "3600", "soon")]
    waited = await attempts(
        server, server.url("x", *busy, GOOD), retries=3, backoff_s=0.001, max_backoff_s=30
    )
    assert waited[:2] == [7, 30]
    assert waited[2] < 1


def test_a_wait_may_be_a_date():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < (retry_after_s(later) or 0) <= 100
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert [retry_after_s(value) for value in ("", "-1", "x", "1.5", "inf")] == [None] * 5


def test_one_host_gets_few_requests_at_once_and_several_get_more(server):
    """A barrier proves that so many are under way together; the count, that there are never more."""
    server.together = threading.Barrier(3)
    urls = [server.url(f"{n}", GOOD) for n in range(12)]
    assert read(*urls, url_concurrency_per_host=3, url_concurrency=32) == [DATA] * 12
    assert server.most == 3
    server.together = threading.Barrier(6)
    urls = [
        server.url(f"{host}/{n}", GOOD, host=host) for n in range(3) for host in ("127.0.0.1", "localhost")
    ]
    assert read(*urls, url_concurrency_per_host=3, url_concurrency=32) == [DATA] * 6
    assert server.most == 6


def test_all_hosts_together_get_no_more_than_set(server):
    server.together = threading.Barrier(2)
    urls = [
        server.url(f"{host}/{n}", GOOD, host=host) for n in range(4) for host in ("127.0.0.1", "localhost")
    ]
    assert read(*urls, url_concurrency=2) == [DATA] * 8
    assert server.most == 2


def test_fetching_stays_a_little_ahead_and_ends_when_nobody_wants_more(server):
    urls = [(server.url(f"{n}", GOOD), "") for n in range(100)]
    results = Reader(settings(url_concurrency=2), ImageSettings()).read(urls)
    assert next(results) == DATA
    results.close()  # type: ignore[attr-defined]
    assert len(server.asked) <= 6


def test_a_connection_is_used_again(server):
    connections: list[Any] = []
    accept = server.get_request

    def counted() -> Any:
        connections.append(request := accept())
        return request

    server.get_request = counted  # type: ignore[method-assign]
    assert read(*(server.url(f"{n}", GOOD) for n in range(10)), url_concurrency=1) == [DATA] * 10
    assert len(connections) == 1


def test_an_error_says_what_is_wrong_in_one_line(server, tmp_path: Path):
    url = server.url("x", Answer(status=418))
    (found,) = Reader(settings(), ImageSettings()).read([(url, "")])
    assert isinstance(found, ImageError)
    assert found.message == "the URL answered 418"
    assert FetchError("no").reason == "unreachable"
