"""What can be indexed."""

from __future__ import annotations

from batch_index.sources.local import LocalSource
from batch_index.sources.source import Source
from search_core.settings import SourceSettings


def open_source(given: str, settings: SourceSettings) -> Source:
    """The source that a user named.

    Raises:
        SourceError: nothing is there, or it cannot be read.
    """
    return LocalSource(given)
