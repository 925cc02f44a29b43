"""Captions and other columns that come along with pictures, from sidecar files.

A captions file holds JSON lines `{"image": path-or-name, "captions": [...], other columns}`. It is the one that
is named, or `captions.jsonl` in a source's folder. A picture without a line there may have a text file of its own
name (`photo.jpg` and `photo.txt`) with a caption a line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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


class Captions:
    """Looks descriptions up by a picture's path below the folder, or by its file name."""

    def __init__(self, sources: Sequence[Source], named: Path | None) -> None:
        """Reads the captions file.

        Raises:
            UsageError: the named file cannot be read, or a line is not of the form above.
        """
        self._named = None if named is None else _read(named)
        self._roots = [folder for source in sources if (folder := source.folder()) is not None]
        if named is not None:
            self._roots.append(named.absolute().parent)
        self._sidecars = {
            root: _read(root / SIDECAR)
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
            return (self._named or {}).get(item.uri) or (self._named or {}).get(name) or Description()
        above = [root for root in self._roots if root in path.parents]
        for root in above:
            lines = self._sidecars.get(root, {}) if self._named is None else self._named
            if found := lines.get(str(path.relative_to(root))):
                return found
        for lines in (
            [self._sidecars.get(root, {}) for root in above] if self._named is None else [self._named]
        ):
            if found := lines.get(path.name):
                return found
        return _text_sidecar(path.with_suffix(".txt"))


def _read(path: Path) -> dict[str, Description]:
    """Descriptions by what the lines of a captions file call their picture."""
    if not path.is_file():
        raise UsageError(f"captions file {path} does not exist")
    try:
        lines = path.read_text(encoding="utf-8-sig").split(
            "\n"
        )  # not splitlines: captions may hold other line ends
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"captions file {path} cannot be read: {error}") from None
    return dict(_parse(path, number, line) for number, line in enumerate(lines, 1) if line.strip())


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
