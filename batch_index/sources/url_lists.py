"""Lists of URLs: plain ones, and the TSV of Google's Storage Transfer Service, in which Open Images is published."""

from __future__ import annotations

import io
from collections.abc import Iterator

from batch_index.sources.files import ListedFile
from batch_index.sources.source import SourceItem
from search_core.addresses import is_remote
from search_core.containers import open_random
from search_core.errors import SourceError
from search_core.object_store import STORE_ERRORS
from search_core.settings import SourceSettings

TSV_HEADER = "TsvHttpData-1.0"


def url_items(file: ListedFile, settings: SourceSettings) -> Iterator[SourceItem]:
    """One item a line; empty lines and those that begin with `#` are passed over.

    Raises:
        SourceError: the list cannot be read, or a line is no URL.
    """
    for number, line in _lines(file, settings):
        url = line.strip()
        if not url or url.startswith("#"):
            continue
        _require_url(file, number, url)
        yield SourceItem(url, "", 0, None)


def tsv_items(file: ListedFile, settings: SourceSettings) -> Iterator[SourceItem]:
    """One item a line `URL<TAB>size<TAB>base64 of the MD5`, after the header line.

    Raises:
        SourceError: the list cannot be read, or a line is not of that form.
    """
    lines = _lines(file, settings)
    _, header = next(lines, (1, ""))
    if header.strip() != TSV_HEADER:
        raise SourceError(f"{file.uri} is no list of URLs: its first line must be {TSV_HEADER}")
    for number, line in lines:
        if not line.strip():
            continue
        url, *rest = (part.strip() for part in line.split("\t"))
        size, md5 = (*rest, "", "")[:2]
        _require_url(file, number, url)
        if size and not (size.isascii() and size.isdigit()):
            raise SourceError(f"{file.uri}, line {number}: {size!r} is no size")
        stated = {"size": size, "md5": md5}
        expected = ";".join(f"{name}={value}" for name, value in stated.items() if value)
        yield SourceItem(url, md5, int(size or 0), None, expected=expected)


def _require_url(file: ListedFile, number: int, url: str) -> None:
    if not is_remote(url):
        raise SourceError(f"{file.uri}, line {number}: {url[:100]!r} is no http or https URL")


def _lines(file: ListedFile, settings: SourceSettings) -> Iterator[tuple[int, str]]:
    try:
        with (
            open_random(file.uri, settings) as source,
            io.TextIOWrapper(io.BufferedReader(source), encoding="utf-8-sig") as text,
        ):
            yield from enumerate(text, 1)
    except STORE_ERRORS as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{file.uri} cannot be read: {line}") from None
