"""Fetching a picture from a URL that a stranger gave, without letting it reach inside.

The host is resolved once, every address must be public, and the connection goes to the address that was
checked, so that a second answer of the name server cannot change it. Redirects are checked the same way.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import httpx

from search_core.errors import FetchError

MAX_REDIRECTS = 3
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
REDIRECTS = frozenset({301, 302, 303, 307, 308})


async def fetch_image(url: str, *, max_bytes: int, timeout_s: float, allow_private: bool = False) -> bytes:
    """The bytes behind an http(s) URL.

    Raises:
        FetchError: not http(s), not a public address, too large, too slow, or not answered with 200.
    """
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(trust_env=False, timeout=timeout_s) as client,
        ):
            for _ in range(MAX_REDIRECTS + 1):
                data, url = await _get(client, url, max_bytes, allow_private)
                if data is not None:
                    return data
    except TimeoutError:
        raise FetchError(f"image_url: no answer within {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FetchError(f"image_url cannot be fetched: {str(error) or type(error).__name__}") from None
    raise FetchError(f"image_url: more than {MAX_REDIRECTS} redirects")


async def _get(
    client: httpx.AsyncClient, url: str, max_bytes: int, allow_private: bool
) -> tuple[bytes | None, str]:
    """One hop: the body, or None and where the redirect leads."""
    target = httpx.URL(url)
    if target.scheme not in {"http", "https"} or not target.host:
        raise FetchError("image_url must be an http or https URL")
    address = await _public_address(
        target.host, target.port or (443 if target.scheme == "https" else 80), allow_private
    )
    request = client.build_request(
        "GET",
        target.copy_with(host=address),
        headers={"Host": target.netloc.decode("ascii"), "Accept": "image/*", "User-Agent": "image-search"},
        extensions={"sni_hostname": target.host},
    )
    response = await client.send(request, stream=True)
    try:
        if response.status_code in REDIRECTS and "location" in response.headers:
            return None, str(target.join(response.headers["location"]))
        if response.status_code != httpx.codes.OK:
            raise FetchError(f"image_url answered {response.status_code}")
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > max_bytes:
                raise FetchError(f"image_url: the file is larger than {max_bytes / 1e6:g} MB")
        return bytes(body), url
    finally:
        await response.aclose()


async def _public_address(host: str, port: int, allow_private: bool) -> str:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise FetchError(f"image_url: the host {host!r} cannot be found") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not allow_private and not all(_is_public(address) for address in addresses):
        raise FetchError("image_url points at an address that is not public")
    return addresses[0]


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
