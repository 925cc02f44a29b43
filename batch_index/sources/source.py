"""What a source of pictures is, and what it says of each picture without reading it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One thing that may be a picture.

    ===========================  =======================================================
    picture                      its `uri`
    ===========================  =======================================================
    local file                   `file:///folder/a.jpg`, percent-encoded
    object                       `s3://bucket/key`, `gs://bucket/key`, the key as it is
    row of a Parquet file        `<uri of the file>#<row group>.<row in the group>`
    member of a tar              `<uri of the tar>#<name of the member>`
    line of a list, URL column   the URL itself
    ===========================  =======================================================
    """

    uri: str
    """Identity of the picture; the id of its point is made of it."""
    version: str
    """Differs when the picture has changed: `size:mtime_ns` of the file, object or container; the MD5 that a list
    states; empty for a bare URL."""
    size: int
    """In bytes; 0 where it is not known without reading."""
    modified: datetime | None
    captions: tuple[str, ...] = ()
    """Those that come with the source itself; sidecar files are read elsewhere."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    expected: str = ""
    """For the reader only: what to verify and where to look, as `size=123;md5=<base64>` or `offset=512;size=123`."""


class Source(Protocol):
    """Where pictures come from, as the user named it."""

    given: str

    def items(self) -> Iterator[SourceItem]:
        """Everything there is, as it is found.

        Raises:
            SourceError: the listing breaks off; what was not listed must not be taken for gone.
        """
        ...

    def covers(self, uri: str) -> bool:
        """Whether a picture at `uri` would be listed here if it existed."""
        ...

    def is_gone(self, uri: str) -> bool:
        """Whether a covered picture that `items` did not give is there no more; False where nobody can know."""
        ...

    def folder(self) -> Path | None:
        """The local folder where a captions file of this source would be."""
        ...
