"""The files of the embedded store: collections, their metadata, aliases and who holds what.

::

    STORE/aliases.json                     alias -> collection, replaced in one step
    STORE/collections/NAME/collection.json metadata, and which shard folder is the current one
    STORE/collections/NAME/shard-0001/     a Qdrant Edge shard
    STORE/collections/NAME/holder.json     the process that has the shard open, for error messages
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from search_core.errors import NotFoundError, StoreError


@dataclass(frozen=True)
class Holder:
    """A process that people can wait for or stop."""

    pid: int
    command: str

    @classmethod
    def this_process(cls) -> Holder:
        """With its program and the first word after it, such as `image-search index`."""
        named = bool(sys.argv and sys.argv[0])
        return cls(os.getpid(), " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]]) if named else "python")


class EdgeFiles:
    """Paths and small JSON files below one store folder. Every write is atomic and on disk when it returns."""

    def __init__(self, root: Path, holder: Holder | None = None) -> None:
        """`holder` signs what this process holds, where another process is the one to name."""
        self.root = root
        self._holder = holder
        self._collections = root / "collections"

    def names(self) -> list[str]:
        """Names of all collections, in the order of their creation."""
        if not self._collections.is_dir():
            return []
        found = [path.parent for path in self._collections.glob("*/collection.json")]
        return sorted((path.name for path in found), key=lambda name: name.rsplit("__", 1)[-1])

    def exists(self, name: str) -> bool:
        """Whether the collection was made completely."""
        return self._metadata_path(name).is_file()

    def metadata(self, name: str) -> dict[str, Any]:
        """The collection's metadata.

        Raises:
            NotFoundError: there is no such collection.
        """
        if not self.exists(name):
            raise NotFoundError(f"no collection {name!r} in {self.root}")
        return read_json(self._metadata_path(name))

    def write_metadata(self, name: str, values: Mapping[str, Any]) -> None:
        """Replaces the collection's metadata."""
        write_json(self._metadata_path(name), values)

    def shard(self, name: str, generation: int) -> Path:
        """The folder of one generation of the collection's shard."""
        return self._folder(name) / f"shard-{generation:04d}"

    def sweep(self, name: str, keep: int) -> None:
        """Deletes shard folders other than generation `keep`: what an interrupted optimization left behind."""
        for path in self._folder(name).glob("shard-*"):
            if path != self.shard(name, keep):
                shutil.rmtree(path, ignore_errors=True)

    def clear(self, name: str) -> None:
        """Deletes everything of a collection; its metadata first, so that half of it is never read."""
        self._metadata_path(name).unlink(missing_ok=True)
        shutil.rmtree(self._folder(name), ignore_errors=True)

    def aliases(self) -> dict[str, str]:
        """Each alias and its collection."""
        path = self.root / "aliases.json"
        return dict(read_json(path)) if path.is_file() else {}

    def set_alias(self, alias: str, name: str) -> None:
        """Moves an alias in one step, under a lock that keeps other processes' moves from being lost."""
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "aliases.lock"):
            write_json(self.root / "aliases.json", {**self.aliases(), alias: name})

    def sign(self, name: str) -> None:
        """Notes that this process holds the collection."""
        write_json(self._folder(name) / "holder.json", asdict(self._holder or Holder.this_process()))

    def holder(self, name: str) -> str:
        """Who said last that it holds the collection, in words."""
        try:
            note = read_json(self._folder(name) / "holder.json")
            return f"process {note['pid']} ({note['command']})"
        except (OSError, KeyError, StoreError):
            return "another process"

    def _folder(self, name: str) -> Path:
        return self._collections / name

    def _metadata_path(self, name: str) -> Path:
        return self._folder(name) / "collection.json"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        StoreError: the file cannot be read or is damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise StoreError(f"{path} is damaged: not a JSON object")
    return value


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes by temporary file, fsync and rename, so that readers see the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(dict(values), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
