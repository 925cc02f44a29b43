"""Fetching many URLs politely: few at once from a host, again after failures that pass, and verified."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from search_core.errors import FetchError
from search_core.fetch import Fetcher
from search_core.settings import SourceSettings


class PoliteFetcher:
    """Keeps to the limits of the settings for all its fetches together. An asynchronous context manager."""

    def __init__(
        self,
        settings: SourceSettings,
        max_bytes: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._sleep = sleep
        self._all = asyncio.Semaphore(settings.url_concurrency)
        self._hosts: dict[str, asyncio.Semaphore] = {}
        self._fetcher = Fetcher(
            max_bytes=max_bytes,
            timeout_s=settings.timeout_s,
            allow_private=settings.allow_private_urls,
            called="the URL",
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._fetcher.__aexit__(kind, error, trace)

    async def fetch(self, url: str, expected: Mapping[str, str]) -> bytes:
        """The bytes behind a URL, of the expected `size` and base64 `md5` where they are given.

        Raises:
            FetchError: they cannot be had, or are others.
        """
        async with self._host(url):  # held while waiting, so that a host that asks for time gets it
            attempt = 0
            while True:
                try:
                    async with self._all:
                        data = await self._fetcher.fetch(url)
                except FetchError as error:
                    if not error.passing or attempt >= self._settings.retries:
                        raise
                    await self._sleep(self._wait(attempt, error.retry_after_s))
                    attempt += 1
                else:
                    verify(data, expected)
                    return data

    def _host(self, url: str) -> asyncio.Semaphore:
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            host = ""
        return self._hosts.setdefault(host, asyncio.Semaphore(self._settings.url_concurrency_per_host))

    def _wait(self, attempt: int, asked_s: float | None) -> float:
        """Exponential, with jitter so that fetches that failed together do not come back together."""
        backoff = self._settings.backoff_s * 2.0**attempt * random.uniform(0.5, 1.5)
        return min(max(backoff, asked_s or 0.0), self._settings.max_backoff_s)


def verify(data: bytes, expected: Mapping[str, str]) -> None:
    """Compares bytes with what a list says of them.

    Raises:
        FetchError: of reason wrong_size or wrong_md5.
    """
    size = expected.get("size")
    if size is not None and len(data) != int(size):
        raise FetchError(f"the URL gave {len(data)} bytes, not the {size} of the list", "wrong_size")
    md5 = expected.get("md5")
    if md5 is not None:
        found = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        if found.rstrip("=") != md5.rstrip("="):
            raise FetchError(f"the URL gave bytes of MD5 {found}, not {md5}", "wrong_md5")
