"""Reading the pictures of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from search_core.errors import ImageError
from search_core.pictures import local_path
from search_core.settings import ImageSettings, SourceSettings

READ_THREADS = 4


class Reader:
    """Reads pictures by URI."""

    def __init__(self, source: SourceSettings, limits: ImageSettings) -> None:
        self._limits = limits

    def read(self, items: Sequence[tuple[str, str]]) -> Iterator[bytes | ImageError]:
        """URIs and what to verify in, their bytes or why not out, in the same order."""
        with ThreadPoolExecutor(READ_THREADS) as pool:
            yield from pool.map(lambda item: self._read(item[0]), items)

    @staticmethod
    def group(uri: str) -> str:
        """What a picture is best read together with; empty for nothing."""
        return uri.partition("#")[0] if "#" in uri else ""

    def _read(self, uri: str) -> bytes | ImageError:
        path = local_path(uri)
        if path is None:
            return ImageError("missing", "the file is not on this machine")
        try:
            size = path.stat().st_size
            if size > self._limits.max_image_mb * 1e6:
                return ImageError(
                    "too_many_bytes",
                    f"{size / 1e6:.1f} MB is more than the limit of {self._limits.max_image_mb:g} MB",
                )
            return path.read_bytes()
        except OSError as error:
            return ImageError("missing", f"the file cannot be read: {error.strerror or error}")
