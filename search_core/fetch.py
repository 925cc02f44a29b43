"""Fetching a picture from a URL that a stranger gave, without letting it reach inside.

The host is resolved once, every address must be public, and the connection goes to the address that was
checked, so that a second answer of the name server cannot change it. Redirects are checked the same way.
"""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import socket
import ssl
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import httpx

from search_core.errors import FetchError

MAX_REDIRECTS = 3
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING = frozenset({408, 429, 500, 502, 503, 504})
GONE = frozenset({404, 410})
MAX_CLIENTS = 256


async def fetch_image(url: str, *, max_bytes: int, timeout_s: float, allow_private: bool = False) -> bytes:
    """The bytes behind one http(s) URL.

    Raises:
        FetchError: not http(s), not a public address, too large, too slow, or not answered with 200.
    """
    async with Fetcher(max_bytes=max_bytes, timeout_s=timeout_s, allow_private=allow_private) as fetcher:
        return await fetcher.fetch(url)


class Fetcher:
    """Fetches many URLs, with connections that are kept open. An asynchronous context manager.

    Each host has a client of its own: connections go to addresses, and hosts that share one must not share a
    connection whose certificate was checked for the other.
    """

    def __init__(
        self, *, max_bytes: int, timeout_s: float, allow_private: bool = False, called: str = "image_url"
    ) -> None:
        """`called` is what messages call the URL."""
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._allow_private = allow_private
        self._called = called
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._ssl: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def fetch(self, url: str) -> bytes:
        """The bytes behind an http(s) URL; one attempt.

        Raises:
            FetchError: not http(s), not a public address, too large, too slow, or not answered with 200.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                for _ in range(MAX_REDIRECTS + 1):
                    data, url = await self._get(url)
                    if data is not None:
                        return data
        except TimeoutError:
            raise FetchError(
                f"{self._called}: no answer within {self._timeout_s:g} s", passing=True
            ) from None
        except httpx.InvalidURL as error:
            raise FetchError(f"{self._called} cannot be fetched: {error}", "refused") from None
        except httpx.HTTPError as error:
            words = str(error) or type(error).__name__
            raise FetchError(f"{self._called} cannot be fetched: {words}", passing=True) from None
        raise FetchError(f"{self._called}: more than {MAX_REDIRECTS} redirects", "refused")

    async def _get(self, url: str) -> tuple[bytes | None, str]:
        """One hop: the body, or None and where the redirect leads."""
        target = httpx.URL(url)
        if target.scheme not in {"http", "https"} or not target.host:
            raise FetchError(f"{self._called} must be an http or https URL", "refused")
        address = await self._public_address(
            target.host, target.port or (443 if target.scheme == "https" else 80)
        )
        client = self._client(target.netloc.decode("ascii"))
        request = client.build_request(
            "GET",
            target.copy_with(host=address),
            headers={
                "Host": target.netloc.decode("ascii"),
                "Accept": "image/*",
                "Accept-Encoding": "identity",  # sizes and hashes are of the file itself
                "User-Agent": "image-search",
            },
            extensions={"sni_hostname": target.host},
        )
        response = await client.send(request, stream=True)
        try:
            if response.status_code in REDIRECTS and "location" in response.headers:
                return None, str(target.join(response.headers["location"]))
            if response.status_code != httpx.codes.OK:
                raise self._answered(response)
            return await self._body(response), url
        finally:
            await response.aclose()

    async def _body(self, response: httpx.Response) -> bytes:
        stated = response.headers.get("content-length", "")
        body = bytearray()
        if not (stated.isascii() and stated.isdigit() and int(stated) > self._max_bytes):
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > self._max_bytes:
                    break
            else:
                return bytes(body)
        raise FetchError(
            f"{self._called}: the file is larger than {self._max_bytes / 1e6:g} MB", "too_many_bytes"
        )

    def _answered(self, response: httpx.Response) -> FetchError:
        status = response.status_code
        passing = status in PASSING
        reason = "missing" if status in GONE else "unreachable" if passing else "refused"
        wait = retry_after_s(response.headers.get("retry-after", "")) if passing else None
        return FetchError(f"{self._called} answered {status}", reason, passing, wait)

    def _client(self, host: str) -> httpx.AsyncClient:
        if host not in self._clients:
            if self._ssl is None:
                self._ssl = httpx.create_ssl_context(trust_env=False)  # costs more than a request
            limits = httpx.Limits(max_keepalive_connections=None if len(self._clients) < MAX_CLIENTS else 0)
            self._clients[host] = httpx.AsyncClient(
                trust_env=False, timeout=self._timeout_s, verify=self._ssl, limits=limits
            )
        return self._clients[host]

    async def _public_address(self, host: str, port: int) -> str:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            passing = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
            raise FetchError(f"{self._called}: the host {host!r} cannot be found", passing=passing) from None
        addresses = [str(entry[4][0]) for entry in found]
        if not self._allow_private and not all(_is_public(address) for address in addresses):
            raise FetchError(f"{self._called} points at an address that is not public", "refused")
        return addresses[0]


def retry_after_s(value: str) -> float | None:
    """The header's seconds, or the seconds until its date; None if it says neither."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in NAT64:
            inner = ipaddress.IPv4Address(parsed.packed[-4:])
        if inner is not None:
            return _is_public(str(inner))
        if parsed.is_site_local:
            return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved
