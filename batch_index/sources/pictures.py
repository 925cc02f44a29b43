"""Sources whose files are the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from batch_index.sources.files import PICTURE_SUFFIXES, Listing
from batch_index.sources.source import SourceItem
from search_core.addresses import split_inside


class PictureSource:
    """The picture files of a listing. A `Source`."""

    def __init__(self, listing: Listing) -> None:
        self.given = listing.given
        self._listing = listing

    def items(self) -> Iterator[SourceItem]:
        """A file is a picture; only its ending says so yet."""
        for file in self._listing.files(PICTURE_SUFFIXES):
            yield SourceItem(file.uri, file.version, file.size, file.modified)

    def covers(self, uri: str) -> bool:
        """Whether it would be one of the files."""
        return split_inside(uri) is None and self._listing.covers(uri)

    def is_gone(self, uri: str) -> bool:
        """Whether the file is there no more."""
        return self._listing.exists(uri) is False

    def folder(self) -> Path | None:
        """The folder of the listing."""
        return self._listing.folder()
