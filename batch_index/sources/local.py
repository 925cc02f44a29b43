"""Local folders, globs and single files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from batch_index.sources.files import GLOB_SIGNS, ListedFile, matches, suffix_of
from search_core.errors import SourceError
from search_core.pictures import file_uri, local_path

NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class LocalFiles:
    """A folder (with all below it), a file, or a glob pattern. A `Listing`."""

    def __init__(self, given: str, apart: Iterable[Path] = ()) -> None:
        """Checks that it is there. Folders `apart` are not listed.

        Raises:
            SourceError: nothing is there, it cannot be read, or it is in a folder apart.
        """
        path = _upwards_resolved(local_path(given) or Path(given).expanduser())
        self.given = given
        self.pattern = path if GLOB_SIGNS & set(given) and not path.exists() else None
        self.root = path
        self._unlisted: set[Path] = set()
        self._apart = {_real(folder) for folder in apart}
        self._is_folder = path.is_dir()  # as it was: one that vanishes must not look like an empty one
        if self.pattern is None and not path.exists():
            raise SourceError(f"source {given} does not exist")
        if self._is_folder and not os.access(path, os.R_OK | os.X_OK):
            raise SourceError(f"source {given} cannot be read: permission denied")
        base = _real(path if self.pattern is None else Path(*_split(path)[0]))
        if not self._apart.isdisjoint((base, *base.parents)):
            raise SourceError(f"source {given} is a folder of the store's own")

    def suffixes(self) -> Iterator[str]:
        """The endings of the files."""
        return (suffix_of(path.name) for path in self._paths())

    def is_single(self) -> bool:
        """Whether it names one file."""
        return self.pattern is None and not self._is_folder

    def files(self, wanted: frozenset[str]) -> Iterator[ListedFile]:
        """Regular files with such endings, in order of their paths.

        Raises:
            SourceError: the folder itself cannot be listed.
        """
        for path in self._paths():
            if not self.is_single() and suffix_of(path.name) not in wanted:
                continue
            try:
                status = path.stat()
            except OSError:
                continue  # gone since it was listed, or a link to nowhere
            if path.is_file():
                yield ListedFile(file_uri(path), status.st_size, status.st_mtime_ns)

    def covers(self, uri: str) -> bool:
        """Whether a file at `uri` is below the folder, matches the glob, or is the file."""
        path = local_path(uri)
        if path is None:
            return False
        if self.pattern is not None:
            return matches(path.parts, self.pattern.absolute().parts)
        root = self.root.absolute()
        return path == root or root in path.parents

    def exists(self, uri: str) -> bool | None:
        """Whether the file is there; None below a folder that could not be listed or may not be entered."""
        path = local_path(uri)
        if path is None or self._unlisted & set(path.parents):
            return None
        try:
            path.stat()
        except ValueError:
            return False
        except OSError as error:
            return False if error.errno in NOT_THERE else None
        return True

    def folder(self) -> Path:
        """The folder, or the one that holds the file or the glob."""
        if self.pattern is not None or not self._is_folder:
            return self.root.absolute().parent
        return self.root.absolute()

    def _paths(self) -> Iterator[Path]:
        if self.pattern is not None:
            base, rest = _split(self.pattern)
            yield from self._matching(Path(*base), rest)
        elif self._is_folder:
            yield from self._walk()
        else:
            yield self.root

    def _matching(self, folder: Path, pattern: Sequence[str]) -> Iterator[Path]:
        """What `glob` finds below a folder, in order of names; unlike there no more is held than one folder's names."""
        first, rest = pattern[0], pattern[1:]
        if first == "**":
            yield from self._matching(folder, rest or ("*",))
            for path in self._children(folder, "*"):
                if _is_folder(path) and not self._is_apart(path):
                    yield from self._matching(path, pattern)
            return
        found = self._children(folder, first) if GLOB_SIGNS & set(first) else [folder / first]
        for path in found:
            if not rest:
                if os.path.lexists(path):
                    yield path
            elif _is_folder(path) and not self._is_apart(path):
                yield from self._matching(path, rest)

    def _children(self, folder: Path, pattern: str) -> list[Path]:
        """What a folder directly has that matches; hidden ones only if the pattern names them so."""
        try:
            names = os.listdir(folder)  # noqa: PTH208 - names are what is needed, and cheaper
        except OSError as error:
            self._note(error)
            return []
        return [folder / name for name in sorted(names) if matches([name], [pattern])]

    def _walk(self) -> Iterator[Path]:
        for parent, folders, names in os.walk(self.root, onerror=self._note):
            folders[:] = sorted(
                name
                for name in folders
                if not name.startswith(".") and not self._is_apart(Path(parent, name))
            )
            for name in sorted(names):
                if not name.startswith("."):
                    yield Path(parent, name)

    def _is_apart(self, folder: Path) -> bool:
        return bool(self._apart) and _real(folder) in self._apart

    def _note(self, error: OSError) -> None:
        """Remembers a folder that could not be listed: nothing below it may be taken for gone."""
        folder = Path(str(error.filename))
        if folder == self.root:
            raise SourceError(f"source {self.given} cannot be read: {error.strerror or error}")
        if error.errno not in NOT_THERE:
            self._unlisted.add(folder.absolute())


def _real(path: Path) -> Path:
    """Without links; `Path.resolve` raises where they go round, before Python 3.13."""
    return Path(os.path.realpath(path))


def _is_folder(path: Path) -> bool:
    """Not of one whose parent may not be searched; `Path.is_dir` raises there before Python 3.14."""
    return os.path.isdir(path)  # noqa: PTH112


def _split(pattern: Path) -> tuple[Sequence[str], Sequence[str]]:
    """The folder that a glob begins in, and what is to match below it."""
    parts = pattern.parts
    signs = (index for index, part in enumerate(parts) if GLOB_SIGNS & set(part))
    first = next(signs, len(parts) - 1)
    return parts[:first], parts[first:]


def _upwards_resolved(path: Path) -> Path:
    """The path without `..`, so that a file has one URI however its source is written."""
    parts = path.parts
    if ".." not in parts:
        return path
    known = len(parts) - parts[::-1].index("..")
    return Path(*parts[:known]).resolve().joinpath(*parts[known:])
