"""Pictures that were uploaded to the server: no source lists them, so a new collection takes them from the one it replaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from batch_index.sources import SourceItem
from batch_index.sources.files import ListedFile
from search_core.addresses import local_path
from search_core.filters import AnyOf
from search_core.payload import RESERVED
from search_core.points import Payload
from search_core.store import Store

PAGE = 1_000


class Uploads:
    """Those of a collection whose files are still in `media_root`."""

    def __init__(self, store: Store, collection: str, media_root: Path) -> None:
        self._store = store
        self._collection = collection
        self._root = media_root.resolve()
        self._names = tuple({media_root.absolute().name, self._root.name})

    async def pages(self) -> AsyncIterator[Sequence[SourceItem]]:
        """All of them, with their captions and columns, some at a time."""
        after: str | None = None
        where = (AnyOf("folder", self._names),)
        while True:
            points, after = await self._store.scroll(self._collection, after=after, limit=PAGE, where=where)
            yield [item for point in points if (item := self._item(point.payload)) is not None]
            if after is None:
                return

    def _item(self, payload: Payload) -> SourceItem | None:
        uri = str(payload["uri"])
        path = local_path(uri)
        if path is None or path.parent.resolve() != self._root or not path.is_file():
            return None
        status = path.stat()
        file = ListedFile(uri, status.st_size, status.st_mtime_ns)
        columns = {name: value for name, value in payload.items() if name not in RESERVED}
        return SourceItem(
            uri, file.version, file.size, file.modified, tuple(payload.get("captions", ())), columns
        )
