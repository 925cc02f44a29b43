"""What a source of an index run is: a stream of pictures, listed without opening them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One picture of a source. `size` is in bytes, 0 where it is not known without reading."""

    uri: str
    version: str
    size: int
    modified: datetime | None
    captions: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    expected: str = ""
    """What a reader must verify."""


class Source(Protocol):
    """Something that can be listed."""

    given: str

    def items(self) -> Iterator[SourceItem]:
        """The pictures, as a stream.

        Raises:
            SourceError: the listing broke off.
        """

    def covers(self, uri: str) -> bool:
        """Whether a picture at `uri` would be listed here if it existed."""

    def is_gone(self, uri: str) -> bool:
        """Whether a covered picture that was not listed is really not there; False where that cannot be known."""

    def folder(self) -> Path | None:
        """The local folder where a captions file of this source would be."""
