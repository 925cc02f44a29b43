"""Which source the user means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batch_index.sources.files import Listing, kind_of
from batch_index.sources.inside import Contents, InsideSource
from batch_index.sources.local import LocalFiles
from batch_index.sources.objects import ObjectFiles
from batch_index.sources.pictures import PictureSource
from batch_index.sources.source import Source
from batch_index.sources.tables import table_items
from batch_index.sources.tars import tar_items
from batch_index.sources.url_lists import tsv_items, url_items
from search_core.addresses import is_remote
from search_core.errors import SourceError
from search_core.object_store import is_object
from search_core.settings import SourceSettings

CONTENTS: dict[str, Contents] = {
    ".tar": tar_items,
    ".parquet": table_items,
    ".tsv": tsv_items,
    ".txt": url_items,
}


def open_source(given: str, settings: SourceSettings, apart: Sequence[Path] = ()) -> Source:
    """The source behind what the user wrote: where it is by its scheme, what it is by the endings of its files.

    Local folders `apart` are not listed.

    Raises:
        SourceError: nothing is there, or it cannot be read.
    """
    if not given.strip():
        raise SourceError("a source is empty: name a folder, a file or a glob")
    listing = _listing(given, settings, apart)
    suffix = kind_of(listing)
    if suffix is None:
        return PictureSource(listing)
    return InsideSource(listing, suffix, CONTENTS[suffix], settings)


def _listing(given: str, settings: SourceSettings, apart: Sequence[Path]) -> Listing:
    if is_object(given):
        return ObjectFiles(given, settings)
    if is_remote(given):
        raise SourceError(f"source {given}: write URLs into a list, one a line, in a file that ends in .txt")
    if "://" in given and not given.startswith("file://"):
        raise SourceError(f"source {given}: only local files, s3:// and gs:// can be indexed")
    return LocalFiles(given, apart)
