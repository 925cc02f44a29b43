"""The bytes of listed pictures, wherever they are, many at a time."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Literal

from search_core.addresses import is_remote, local_path, split_inside
from search_core.containers import is_table, parse_expected, parse_row, read_members, read_rows, too_large
from search_core.errors import FetchError, ImageError
from search_core.object_store import STORE_ERRORS, open_filesystem
from search_core.polite import PoliteFetcher
from search_core.settings import ImageSettings, SourceSettings

FILE_THREADS = 8
FILES_AHEAD = 16
URLS_AHEAD = 2
"""URLs that may be fetched or wait to be taken, for each one that may be fetched at once."""

Item = tuple[str, str]
Found = bytes | ImageError
Way = tuple[Literal["url", "file", "rows", "members"], str]


class Reader:
    """Reads pictures by their URI. Holds settings only, so it travels to Ray's tasks."""

    def __init__(self, source: SourceSettings, limits: ImageSettings) -> None:
        self._source = source
        self._max_bytes = int(limits.max_image_mb * 1e6)

    def read(self, items: Sequence[Item]) -> Iterator[Found]:
        """The bytes of each (uri, expected), or why they cannot be had, in the same order.

        Rows of one row group, members of one tar, files, and URLs that follow one another are read together;
        a few are read ahead of what is taken, never all.
        """
        for (kind, where), run in groupby(items, key=lambda item: _way(item[0])):
            some = list(run)
            if kind == "url":
                yield from self._urls(some)
            elif kind == "file":
                yield from self._files(some)
            elif kind == "rows":
                yield from self._rows(where, some)
            else:
                members = [((split_inside(uri) or ("", ""))[1], expected) for uri, expected in some]
                yield from read_members(where, members, self._max_bytes, self._source)

    @staticmethod
    def group(uri: str) -> str:
        """Items of an equal group are best read in one go: a table's row group, or a tar; empty for others."""
        inside = split_inside(uri)
        if inside is None:
            return ""
        container, name = inside
        return f"{container}#{name.partition('.')[0]}" if is_table(container) else container

    def _rows(self, where: str, items: Sequence[Item]) -> Iterator[Found]:
        container, _, _ = where.rpartition("#")
        try:
            places = [parse_row((split_inside(uri) or ("", ""))[1]) for uri, _ in items]
        except ImageError as error:
            yield from [error] * len(items)
            return
        rows = [row for _, row in places]
        for found in read_rows(container, places[0][0], rows, self._source):
            yield self._limited(found)

    def _files(self, items: Sequence[Item]) -> Iterator[Found]:
        with ThreadPoolExecutor(min(FILE_THREADS, len(items))) as pool:
            yield from _ahead(items, FILES_AHEAD, lambda item: pool.submit(self._file, item[0]))

    def _file(self, uri: str) -> Found:
        path = local_path(uri)
        try:
            if path is not None:
                size = path.stat().st_size
                return self._too_large(size) or path.read_bytes()
            filesystem, inner = open_filesystem(uri, self._source)
            with filesystem.open_input_file(inner) as file:
                return self._too_large(file.size()) or bytes(file.read())
        except FileNotFoundError as error:
            return ImageError("missing", f"the file cannot be read: {error.strerror or 'it is not there'}")
        except STORE_ERRORS as error:
            words = getattr(error, "strerror", None) or str(error).splitlines()[0]
            reason = "missing" if path is not None else "unreachable"
            return ImageError(reason, f"the file cannot be read: {words}")

    def _urls(self, items: Sequence[Item]) -> Iterator[Found]:
        with _loop() as run:
            fetcher = run(_made(self._source, self._max_bytes)).result()
            try:
                ahead = self._source.url_concurrency * URLS_AHEAD
                yield from _ahead(items, ahead, lambda item: run(_fetched(fetcher, *item)))
            finally:
                run(fetcher.__aexit__(None, None, None)).result()

    def _limited(self, found: Found) -> Found:
        return found if isinstance(found, ImageError) else self._too_large(len(found)) or found

    def _too_large(self, size: int) -> ImageError | None:
        if size <= self._max_bytes:
            return None
        return ImageError("too_many_bytes", too_large(size, self._max_bytes))


def _way(uri: str) -> Way:
    if is_remote(uri):
        return "url", ""
    group = Reader.group(uri)
    if not group:
        return "file", ""
    return ("rows" if is_table((split_inside(uri) or ("", ""))[0]) else "members"), group


def _ahead(items: Sequence[Item], ahead: int, start: Callable[[Item], Future[Found]]) -> Iterator[Found]:
    """Results in order, with at most so many started and not yet taken."""
    under_way: deque[Future[Found]] = deque()
    try:
        for item in items:
            under_way.append(start(item))
            if len(under_way) >= ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()


async def _made(source: SourceSettings, max_bytes: int) -> PoliteFetcher:
    return PoliteFetcher(source, max_bytes)


async def _fetched(fetcher: PoliteFetcher, url: str, expected: str) -> Found:
    try:
        return await fetcher.fetch(url, parse_expected(expected))
    except FetchError as error:
        return ImageError(error.reason, error.message)


@contextmanager
def _loop() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Future[Any]]]:
    """An event loop in a thread of its own: fetches go on, and their time limits hold, while pictures are taken."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="urls", daemon=True)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop)
    finally:
        asyncio.run_coroutine_threadsafe(_cancelled(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _cancelled() -> None:
    """Ends what is still under way, once nobody wants it any more."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
