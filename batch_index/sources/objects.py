"""Objects in S3 and Google Cloud Storage: prefixes, globs and single objects.

A prefix means what is below it as in a folder: `s3://bucket/cats` gives `cats/a.jpg`, not `catsuit.jpg`. Prefixes are
listed one by one; the keys directly below one are held, never the whole bucket (pyarrow pages through a listing
itself but gives no part of it before the end). An object's version is its size and time of upload, which listings
give; ETags would cost a request an object. `gs://` takes the same way through pyarrow's GcsFileSystem; beyond its
construction it is not tested, for want of a server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pyarrow import fs

from batch_index.sources.files import GLOB_SIGNS, ListedFile, matches, suffix_of
from search_core.errors import SourceError
from search_core.object_store import STORE_ERRORS, bucket_and_key, open_filesystem
from search_core.settings import SourceSettings


class ObjectFiles:
    """A prefix (with all below it), an object, or a glob pattern. A `Listing`."""

    def __init__(self, given: str, settings: SourceSettings) -> None:
        """Checks that it is there.

        Raises:
            SourceError: nothing is there, or the store does not answer.
        """
        self.given = given
        self._scheme, _, rest = given.partition("://")
        self._root = rest.strip("/")
        self._pattern: list[str] | None = None
        if not self._root or GLOB_SIGNS & set(self._root.partition("/")[0]):
            raise SourceError(f"source {given} names no bucket")
        try:
            self._filesystem, _ = open_filesystem(f"{self._scheme}://{self._root}", settings)
        except STORE_ERRORS as error:
            raise SourceError(f"source {given} cannot be opened: {_line(error)}") from None
        kind = self._info(self._root).type
        if kind == fs.FileType.NotFound and GLOB_SIGNS & set(self._root):
            self._pattern = self._root.split("/")
            literal = next(
                number for number, part in enumerate(self._pattern) if GLOB_SIGNS & set(part) or part == "**"
            )
            self._root = "/".join(self._pattern[:literal])
            kind = self._info(self._root).type
        if kind == fs.FileType.NotFound:
            raise SourceError(f"source {given} does not exist")
        self._is_single: bool = kind == fs.FileType.File

    def suffixes(self) -> Iterator[str]:
        """The endings of the objects."""
        return (suffix_of(info.base_name) for info in self._objects())

    def is_single(self) -> bool:
        """Whether it names one object."""
        return self._is_single

    def files(self, wanted: frozenset[str]) -> Iterator[ListedFile]:
        """Objects with such endings, in order of their keys below each prefix.

        Raises:
            SourceError: the store does not answer to the end.
        """
        for info in self._objects():
            if self._is_single or suffix_of(info.base_name) in wanted:
                yield ListedFile(f"{self._scheme}://{info.path}", info.size or 0, info.mtime_ns or 0)

    def covers(self, uri: str) -> bool:
        """Whether an object at `uri` is below the prefix, matches the glob, or is the object."""
        scheme, bucket, key = bucket_and_key(uri)
        path = f"{bucket}/{key}"
        if scheme != self._scheme:
            return False
        if self._pattern is not None:
            return matches(path.split("/"), self._pattern)
        return path == self._root or path.startswith(f"{self._root}/")

    def exists(self, uri: str) -> bool | None:
        """Asks the store, which may not say."""
        _, bucket, key = bucket_and_key(uri)
        try:
            info = self._filesystem.get_file_info(f"{bucket}/{key}")
        except STORE_ERRORS:
            return None
        return bool(info.type == fs.FileType.File)

    def folder(self) -> Path | None:
        """There is none."""
        return None

    def _objects(self) -> Iterator[fs.FileInfo]:
        if self._is_single:
            yield self._info(self._root)
            return
        for info in self._below(self._root):
            if self._pattern is None or matches(info.path.split("/"), self._pattern):
                yield info

    def _below(self, prefix: str) -> Iterator[fs.FileInfo]:
        try:
            found = self._filesystem.get_file_info(fs.FileSelector(prefix))
        except STORE_ERRORS as error:
            raise SourceError(f"source {self.given} cannot be listed: {_line(error)}") from None
        found = sorted((info for info in found if not self._is_hidden(info)), key=lambda info: info.path)
        yield from (info for info in found if info.type == fs.FileType.File and not info.path.endswith("/"))
        for info in found:
            if info.type == fs.FileType.Directory:
                yield from self._below(info.path)

    def _is_hidden(self, info: fs.FileInfo) -> bool:
        """Hidden, unless a glob names it so: the glob's own match then says which."""
        hidden: bool = info.base_name.startswith(".")
        return hidden and self._pattern is None

    def _info(self, path: str) -> fs.FileInfo:
        try:
            return self._filesystem.get_file_info(path)
        except STORE_ERRORS as error:
            raise SourceError(f"source {self.given} cannot be read: {_line(error)}") from None


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
