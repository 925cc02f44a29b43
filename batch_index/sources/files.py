"""Files in folders and prefixes: what a listing gives, and which files are taken for what."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Protocol

PICTURE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".j2k",
        ".ppm", ".pgm", ".pnm", ".tga", ".ico", ".qoi",
    }
)  # fmt: skip
CONTAINER_SUFFIXES = (".tar", ".parquet", ".tsv", ".txt")
"""In order: where several kinds are together, the first one holds the pictures and the others speak about them, as
the tables and notes beside the tars of a data set do."""
GLOB_SIGNS = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file or object. `size` is in bytes, `mtime_ns` in nanoseconds since 1970."""

    uri: str
    size: int
    mtime_ns: int

    @property
    def version(self) -> str:
        """Differs when the file was changed, without reading it."""
        return f"{self.size}:{self.mtime_ns}"

    @property
    def modified(self) -> datetime:
        """When the file was changed last."""
        return datetime.fromtimestamp(self.mtime_ns / 1e9, tz=UTC)


class Listing(Protocol):
    """The files that a source names, of any kind: a folder or prefix with all below it, a glob, or one file."""

    given: str

    def suffixes(self) -> Iterator[str]:
        """The lower-case endings of the files, one by one, without looking at the files."""
        ...

    def is_single(self) -> bool:
        """Whether it names one file, which is taken whatever its ending."""
        ...

    def files(self, wanted: frozenset[str]) -> Iterator[ListedFile]:
        """Files with such endings, in order; hidden files and folders are left out.

        Raises:
            SourceError: the listing breaks off.
        """
        ...

    def covers(self, uri: str) -> bool:
        """Whether a file at `uri` is below the folder or prefix, matches the glob, or is the file."""
        ...

    def exists(self, uri: str) -> bool | None:
        """Whether the file is there; None where nobody can know."""
        ...

    def folder(self) -> Path | None:
        """The local folder that it is about."""
        ...


def suffix_of(name: str) -> str:
    """The ending of a file's name in lower case, with its dot."""
    return PurePosixPath(name).suffix.lower()


def kind_of(listing: Listing) -> str | None:
    """The ending of the containers that hold the pictures, or None where the files are the pictures."""
    found: set[str] = set()
    for suffix in listing.suffixes():
        if suffix in PICTURE_SUFFIXES:
            return None
        found.add(suffix)
    return next((suffix for suffix in CONTAINER_SUFFIXES if suffix in found), None)


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether `glob` would find a path; `Path.full_match` comes with Python 3.13, and finds hidden files too."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        deeper = bool(parts) and not parts[0].startswith(".") and matches(parts[1:], pattern)
        return deeper or matches(parts, pattern[1:])
    if not parts or (parts[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])
