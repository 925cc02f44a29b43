"""The quarantine: pictures that could not be indexed, and why, as a Parquet file beside the store.

Columns: uri (string), reason (string, one word), error (string), time (timestamp, UTC), version (string, of the
file at that time). A file that has not changed since is not tried again unless that is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from search_core.addresses import split_inside
from search_core.errors import StoreError

SAVED_TOGETHER = 500
SCHEMA = pa.schema(
    [
        ("uri", pa.string()),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("version", pa.string()),
    ]
)


@dataclass(frozen=True)
class Failure:
    """One picture that could not be indexed."""

    uri: str
    reason: str
    error: str
    version: str
    time: datetime

    @property
    def is_out_of_reach(self) -> bool:
        """Whether it was listed and then not there: a file that is gone, or a store that does not answer."""
        is_file = not self.uri.startswith(("http:", "https:")) and split_inside(self.uri) is None
        return self.reason == "unreachable" or (is_file and self.reason == "missing")


class Quarantine:
    """The failures of one collection. Changes are on disk after `save`."""

    def __init__(self, path: Path) -> None:
        """Reads what is there.

        Raises:
            StoreError: the file is damaged.
        """
        self._path = path
        self._unsaved = 0
        self._failures: dict[str, Failure] = {}
        if path.is_file():
            try:
                rows = pq.read_table(path, schema=SCHEMA).to_pylist()
            except (OSError, pa.ArrowInvalid) as error:
                raise StoreError(
                    f"{path} cannot be read: {error}; delete it to try all its pictures again"
                ) from None
            self._failures = {row["uri"]: Failure(**row) for row in rows}

    @staticmethod
    def path_of(store: Path, collection: str) -> Path:
        """Where the quarantine of a collection is."""
        return store / "quarantine" / f"{collection}.parquet"

    def __len__(self) -> int:
        return len(self._failures)

    def uris(self) -> list[str]:
        """The pictures that failed."""
        return list(self._failures)

    def failures(self) -> list[Failure]:
        """All failures, in order of their URIs."""
        return sorted(self._failures.values(), key=lambda failure: failure.uri)

    def holds(self, uri: str, version: str) -> bool:
        """Whether the file failed before and has not changed since."""
        failure = self._failures.get(uri)
        return failure is not None and failure.version == version

    def add(self, uri: str, reason: str, error: str, version: str) -> None:
        """Notes a failure; a file fails once, however often it is tried."""
        self._failures[uri] = Failure(uri, reason, error, version, datetime.now(UTC))
        self._unsaved += 1

    def release(self, uris: Iterable[str]) -> None:
        """Forgets failures: the files are indexed now, or gone."""
        for uri in uris:
            self._failures.pop(uri, None)

    def save_some(self) -> None:
        """Saves if much has come since: what was found out slowly should outlive a run that is killed."""
        if self._unsaved >= max(SAVED_TOGETHER, len(self) // 8):  # the file is written whole each time
            self.save()

    def save(self) -> None:
        """Writes the file by temporary file and rename; an empty quarantine has no file."""
        self._unsaved = 0
        if not self._failures:
            self._path.unlink(missing_ok=True)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        rows = [vars(failure) for failure in self.failures()]
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary)
        temporary.replace(self._path)
