"""Fetching what a stranger names: only public addresses, only so much, only so long. Against a real local server."""

from __future__ import annotations

import asyncio
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from search_core import fetch
from search_core.errors import FetchError
from search_core.fetch import fetch_image
from tests.fixtures.pictures import plain

PICTURE = plain("red")


class Handler(BaseHTTPRequestHandler):
    """Answers by path; counts what was asked."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Host"]))  # type: ignore[attr-defined]
        name, _, argument = self.path.strip("/").partition("/")
        getattr(self, f"_{name}", self._missing)(argument)

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def _picture(self, _argument: str) -> None:
        self._answer(200, PICTURE)

    def _missing(self, _argument: str) -> None:
        self._answer(404, b"not here")

    def _empty(self, _argument: str) -> None:
        self._answer(204)

    def _to(self, argument: str) -> None:
        status, _, target = argument.partition("/")
        self._answer(int(status), Location=target.replace("!", "/"))

    def _loop(self, _argument: str) -> None:
        self._answer(302, Location=self.path)

    def _nowhere(self, _argument: str) -> None:
        self._answer(302)

    def _large(self, argument: str) -> None:
        self._answer(200, b"x" * int(argument))

    def _endless(self, _argument: str) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while not self.server.stopping.is_set():  # type: ignore[attr-defined]
                self.wfile.write(b"x" * 4096)
        except OSError:
            self.server.hung_up.set()  # type: ignore[attr-defined]

    def _silent(self, _argument: str) -> None:
        self.server.stopping.wait()  # type: ignore[attr-defined]

    def _drip(self, _argument: str) -> None:
        """A byte now and then: no single read is slow, the whole never ends."""
        self.send_response(200)
        self.end_headers()
        try:
            while not self.server.stopping.wait(0.02):  # type: ignore[attr-defined]
                self.wfile.write(b"x")
        except OSError:
            pass

    def _rude(self, _argument: str) -> None:
        self.wfile.write(b"this is no HTTP\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A server on a free port of the loopback interface."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str]] = []
        self.stopping, self.hung_up = threading.Event(), threading.Event()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_port}/{path}"


@pytest.fixture
def server():
    with Server() as it:
        thread = threading.Thread(target=it.serve_forever, args=[0.01])
        thread.start()
        yield it
        it.stopping.set()
        it.shutdown()
        thread.join()


async def get(url: str, **options) -> bytes:
    return await fetch_image(url, **{"max_bytes": 100_000, "timeout_s": 20, "allow_private": True, **options})


async def test_a_picture_is_fetched(server):
    assert await get(server.url("picture")) == PICTURE
    assert server.asked == [("/picture", f"127.0.0.1:{server.server_port}")]


async def test_the_name_is_sent_although_the_address_is_dialled(server):
    assert await get(server.url("picture", host="localhost")) == PICTURE
    assert server.asked[0][1] == f"localhost:{server.server_port}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(server, status):
    assert await get(server.url(f"to/{status}/!picture")) == PICTURE
    assert [path for path, _ in server.asked] == [f"/to/{status}/!picture", "/picture"]


async def test_redirects_end(server):
    with pytest.raises(FetchError, match="more than 3 redirects"):
        await get(server.url("loop"))
    assert len(server.asked) == 4


async def test_a_redirect_to_nowhere_is_no_picture(server):
    with pytest.raises(FetchError, match="answered 302"):
        await get(server.url("nowhere"))


@pytest.mark.parametrize(("path", "status"), [("missing", 404), ("empty", 204)])
async def test_only_200_is_a_picture(server, path, status):
    with pytest.raises(FetchError, match=f"answered {status}"):
        await get(server.url(path))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "LOCALHOST", "localhost.", "[::1]",
        "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::a00:1]",
        "[2002:7f00:1::]", "[2002:a00:1::]", "[::]", "0.0.0.0", "0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
        "169.254.169.254", "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "224.0.0.1", "[ff02::1]",
        "255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.2.1", "[2001:db8::1]", "[100::1]",
    ],
)  # fmt: skip
async def test_addresses_that_are_not_public_are_never_dialled(server, host):
    with pytest.raises(FetchError, match=r"not public|cannot be found|Invalid IPv4"):
        await get(f"http://{host}:{server.server_port}/picture", allow_private=False, timeout_s=60)
    assert server.asked == []


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::", "192.88.98.1"],
)
def test_public_addresses_are_public(address):
    assert fetch._is_public(address)


async def test_a_redirect_inside_is_refused_although_the_first_hop_was_public(server, monkeypatch):
    """The first hop's address counts as public here; what it leads to is checked like a first one."""
    public = fetch._is_public
    monkeypatch.setattr(fetch, "_is_public", lambda address: address == "127.0.0.1" or public(address))
    assert await get(server.url("picture"), allow_private=False) == PICTURE
    for inside in ("http:!!127.0.0.2", "http:!![::1]", "http:!!169.254.169.254!latest", "!!10.0.0.1!x"):
        with pytest.raises(FetchError, match="not public"):
            await get(server.url(f"to/302/{inside}"), allow_private=False)


async def test_all_addresses_of_a_name_must_be_public(server, monkeypatch):
    """A name server under a stranger's hand may mix them; the loop's resolver stands in for it."""
    port = server.server_port

    async def resolve(_host: str, _port: int, **_: object) -> list:
        return [(socket.AF_INET, 1, 6, "", (address, port)) for address in ("8.8.8.8", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(FetchError, match="not public"):
        await get("http://innocent.example/picture", allow_private=False)


async def test_the_address_that_was_checked_is_the_one_that_is_dialled(server, monkeypatch):
    """A name that answers otherwise when asked again (DNS rebinding) gains nothing."""
    answers = iter([["127.0.0.1"], ["127.0.0.9"]])
    asked = []

    async def resolve(host: str, port: int, **_: object) -> list:
        asked.append(host)
        return [(socket.AF_INET, 1, 6, "", (address, port)) for address in next(answers)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    monkeypatch.setattr(fetch, "_is_public", lambda address: address == "127.0.0.1")
    assert await get(f"http://rebind.example:{server.server_port}/picture", allow_private=False) == PICTURE
    assert asked[0] == "rebind.example"
    assert server.asked[0][1] == f"rebind.example:{server.server_port}"


@pytest.mark.parametrize(
    "url",
    [
        "", "picture.jpg", "/etc/passwd", "file:///etc/passwd", "ftp://example.com/a", "gopher://example.com", "http://",
        "http:///a", "data:image/png;base64,AAAA", "javascript:1", "http://[::1", "http://a b/", "http://exa\nmple.com/",
        "http://example.com:99999/", "http://" + "x" * 300 + ".com/", "http://\x00/",
    ],
)  # fmt: skip
async def test_what_is_no_web_address_is_refused(url):
    with pytest.raises(FetchError) as caught:
        await get(url)
    assert "\n" not in str(caught.value)


async def test_a_redirect_to_another_kind_of_address_is_refused(server):
    for target in ("file:!!!etc!passwd", "gopher:!!x"):
        with pytest.raises(FetchError, match="http or https"):
            await get(server.url(f"to/302/{target}"))


async def test_a_name_that_does_not_exist_is_said():
    with pytest.raises(FetchError, match=r"the host 'nothing\.invalid' cannot be found"):
        await get("http://nothing.invalid/a.jpg", timeout_s=60)


async def test_a_file_of_just_the_limit_is_taken_and_one_byte_more_is_not(server):
    assert len(await get(server.url("large/5000"), max_bytes=5000)) == 5000
    with pytest.raises(FetchError, match=r"larger than 0\.005 MB"):
        await get(server.url("large/5001"), max_bytes=5000)


async def test_a_stream_without_end_is_left_at_the_limit(server):
    with pytest.raises(FetchError, match="larger than"):
        await get(server.url("endless"), max_bytes=50_000)
    assert await asyncio.to_thread(server.hung_up.wait, 60)


@pytest.mark.parametrize("path", ["silent", "drip"])
async def test_the_time_limit_is_for_the_whole(server, path):
    with pytest.raises(FetchError, match=r"no answer within 0\.3 s|ReadTimeout"):
        await get(server.url(path), timeout_s=0.3)


async def test_a_server_that_talks_nonsense_or_is_not_there_is_one_line(server):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    for url in (server.url("rude"), f"http://127.0.0.1:{port}/"):
        with pytest.raises(FetchError, match="cannot be fetched") as caught:
            await get(url)
        assert "\n" not in str(caught.value)


async def test_the_environment_has_no_say(server, monkeypatch):
    """A proxy would dial for us, whatever was checked."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert await get(server.url("picture")) == PICTURE
