"""Captions and other columns that come along with pictures, from sidecar files.

A captions file holds JSON lines `{"image": path-or-name, "captions": [...], other columns}`. It is the one that
is named, or `captions.jsonl` in a source's folder. A picture without a line there may have a text file of its own
name (`photo.jpg` and `photo.txt`) with a caption a line.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batch_index.sources import Source, SourceItem
from search_core.addresses import local_path, split_inside
from search_core.errors import UsageError
from search_core.payload import folder_and_name

SIDECAR = "captions.jsonl"
MAX_TEXT_BYTES = 64_000


@dataclass(frozen=True)
class Description:
    """What is known of a picture beside its file."""

    captions: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)


class _Lines:
    """Descriptions by what the lines of a captions file call their picture; the last line of a name counts.

    Kept in a temporary file of SQLite's: a large corpus may have a line for each picture.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UsageError(f"captions file {path} does not exist")
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(
            "CREATE TABLE line (image TEXT PRIMARY KEY, captions TEXT, columns TEXT) WITHOUT ROWID"
        )
        self._db.execute("BEGIN")
        try:
            with path.open(encoding="utf-8-sig", newline="\n") as file:  # captions may hold other line ends
                found = (_parse(path, number, line) for number, line in enumerate(file, 1) if line.strip())
                self._db.executemany("INSERT OR REPLACE INTO line VALUES (?, ?, ?)", map(_packed, found))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"captions file {path} cannot be read: {error}") from None
        self._db.execute("COMMIT")

    def get(self, image: str) -> Description | None:
        """What is said of a picture, if anything is."""
        row = self._db.execute(
            "SELECT captions, columns FROM line WHERE image = ?", (json.dumps(image),)
        ).fetchone()
        return None if row is None else Description(tuple(json.loads(row[0])), json.loads(row[1]))


def _packed(line: tuple[str, Description]) -> tuple[str, str, str]:
    """As JSON in ASCII, which SQLite takes whatever is in it."""
    image, description = line
    return json.dumps(image), json.dumps(description.captions), json.dumps(dict(description.columns))


class Captions:
    """Looks descriptions up by a picture's path below the folder, or by its file name."""

    def __init__(self, sources: Sequence[Source], named: Path | None) -> None:
        """Reads the captions file.

        Raises:
            UsageError: the named file cannot be read, or a line is not of the form above.
        """
        self._named = None if named is None else _Lines(named)
        self._roots = [folder for source in sources if (folder := source.folder()) is not None]
        if named is not None:
            self._roots.append(named.absolute().parent)
        self._sidecars = {
            root: _Lines(root / SIDECAR)
            for root in self._roots
            if named is None and (root / SIDECAR).is_file()
        }

    def of(self, item: SourceItem) -> Description:
        """The description of a picture: what its source tells, and over that what a sidecar does; may be empty."""
        found = self._beside(item)
        columns = {**item.columns, **found.columns}
        return Description(found.captions or item.captions, columns)

    def _beside(self, item: SourceItem) -> Description:
        path = local_path(item.uri)
        if path is None or split_inside(item.uri) is not None:
            name = folder_and_name(item.uri)[1]
            return _first([self._named], item.uri) or _first([self._named], name) or Description()
        above = [root for root in self._roots if root in path.parents]
        lines = {root: self._named or self._sidecars.get(root) for root in above}
        for root in above:
            if found := _first([lines[root]], str(path.relative_to(root))):
                return found
        by_name = list(lines.values()) if self._named is None else [self._named]
        return _first(by_name, path.name) or _text_sidecar(path.with_suffix(".txt"))


def _first(files: Iterable[_Lines | None], image: str) -> Description | None:
    """What the first file says that says anything of the picture."""
    return next((found for lines in files if lines and (found := lines.get(image))), None)


def _parse(path: Path, number: int, line: str) -> tuple[str, Description]:
    try:
        value = json.loads(line)
        columns = dict(value)
        image = columns.pop("image")
        captions = columns.pop("captions", [])
    except (ValueError, TypeError, KeyError):
        raise UsageError(f'{path}, line {number}: needs {{"image": ..., "captions": [...]}}') from None
    captions = [captions] if isinstance(captions, str) else captions
    if (
        not isinstance(image, str)
        or not isinstance(captions, list)
        or not all(isinstance(c, str) for c in captions)
    ):
        raise UsageError(f"{path}, line {number}: image is a string, captions a list of strings")
    return image, Description(tuple(captions), columns)


def _text_sidecar(path: Path) -> Description:
    try:
        if not path.is_file() or path.stat().st_size > MAX_TEXT_BYTES:
            return Description()
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return Description()
    return Description(tuple(line.strip() for line in lines if line.strip()))
