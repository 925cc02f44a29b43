"""Sources whose files hold the pictures: tables, tars and lists."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from batch_index.sources.files import ListedFile, Listing, suffix_of
from batch_index.sources.source import SourceItem
from search_core.addresses import split_inside
from search_core.containers import holds
from search_core.object_store import STORE_ERRORS
from search_core.settings import SourceSettings

Contents = Callable[[ListedFile, SourceSettings], Iterator[SourceItem]]


class InsideSource:
    """What is in the files of one kind. A `Source`.

    A URL is never covered: nobody can tell which list it came from, so none is deleted because a list lacks it.
    """

    def __init__(self, listing: Listing, suffix: str, contents: Contents, settings: SourceSettings) -> None:
        self.given = listing.given
        self._listing = listing
        self._suffix = suffix
        self._contents = contents
        self._settings = settings

    def items(self) -> Iterator[SourceItem]:
        """The contents of one file after the other.

        Raises:
            SourceError: a file cannot be read to its end, or is not of its kind.
        """
        for file in self._listing.files(frozenset({self._suffix})):
            yield from self._contents(file, self._settings)

    def covers(self, uri: str) -> bool:
        """Whether it is inside a file that would be listed."""
        inside = split_inside(uri)
        return inside is not None and suffix_of(inside[0]) == self._suffix and self._listing.covers(inside[0])

    def is_gone(self, uri: str) -> bool:
        """Whether its file is there no more, or is without it now."""
        inside = split_inside(uri)
        if inside is None:
            return False
        there = self._listing.exists(inside[0])
        if not there:
            return there is False
        try:
            return not holds(uri, self._settings)
        except (*STORE_ERRORS, tarfile.TarError):
            return False

    def folder(self) -> Path | None:
        """The folder of the listing."""
        return self._listing.folder()
