"""What there is to index: folders, globs and single files, listed without opening a picture."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from batch_index.sources.source import SourceItem
from search_core.errors import SourceError
from search_core.pictures import file_uri, local_path

PICTURE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".j2k",
        ".ppm", ".pgm", ".pnm", ".tga", ".ico", ".qoi",
    }
)  # fmt: skip
GLOB_SIGNS = frozenset("*?[")


class LocalSource:
    """A folder (with all below it), a file, or a glob pattern."""

    def __init__(self, given: str) -> None:
        """Checks that it is there.

        Raises:
            SourceError: nothing is there, or it cannot be read.
        """
        path = _upwards_resolved(Path(given).expanduser())
        self.given = given
        self.pattern = path if GLOB_SIGNS & set(given) and not path.exists() else None
        self.root = path
        if "://" in given:
            raise SourceError(f"source {given}: only local folders, files and globs can be indexed yet")
        if self.pattern is None and not path.exists():
            raise SourceError(f"source {given} does not exist")
        if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
            raise SourceError(f"source {given} cannot be read: permission denied")

    def items(self) -> Iterator[SourceItem]:
        """The files, in order of their paths; hidden files and folders are left out."""
        for path in self._paths():
            try:
                status = path.stat()
            except OSError:
                continue  # gone since it was listed, or a link to nowhere
            if path.is_file():
                version = f"{status.st_size}:{status.st_mtime_ns}"
                modified = datetime.fromtimestamp(status.st_mtime_ns / 1e9, tz=UTC)
                yield SourceItem(file_uri(path), version, status.st_size, modified)

    def covers(self, uri: str) -> bool:
        """Whether a picture at `uri` would be listed here if its file existed."""
        path = local_path(uri)
        if path is None:
            return False
        if self.pattern is not None:
            return _matches(path.parts, self.pattern.absolute().parts)
        root = self.root.absolute()
        return path == root or root in path.parents

    def is_gone(self, uri: str) -> bool:
        """Whether there is no file any more."""
        path = local_path(uri)
        try:
            return path is not None and not path.exists()
        except OSError:  # a folder that may not be read: who knows
            return False

    def folder(self) -> Path | None:
        """Where a captions file of this source would be."""
        if self.pattern is not None or not self.root.is_dir():
            return self.root.absolute().parent
        return self.root.absolute()

    def _paths(self) -> Iterator[Path]:
        if self.pattern is not None:
            found = sorted(Path(match) for match in glob.iglob(str(self.pattern), recursive=True))  # noqa: PTH207 - absolute or relative alike
            yield from (path for path in found if path.suffix.lower() in PICTURE_SUFFIXES)
        elif self.root.is_dir():
            yield from _walk(self.root)
        else:
            yield self.root


def _upwards_resolved(path: Path) -> Path:
    """The path without `..`, so that a file has one URI however its source is written."""
    parts = path.parts
    if ".." not in parts:
        return path
    known = len(parts) - parts[::-1].index("..")
    return Path(*parts[:known]).resolve().joinpath(*parts[known:])


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether `glob` would find a path; `Path.full_match` comes with Python 3.13, and finds hidden files too."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        deeper = bool(parts) and not parts[0].startswith(".") and _matches(parts[1:], pattern)
        return deeper or _matches(parts, pattern[1:])
    if not parts or (parts[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES:
                yield Path(parent, name)
