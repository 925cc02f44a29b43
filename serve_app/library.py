"""Indexed pictures one by one: their files and thumbnails, uploads and deletions."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from search_core.errors import CollectionGoneError, FetchError, NotFoundError
from search_core.fetch import fetch_image
from search_core.image import decode_rgb
from search_core.model import ModelSpec
from search_core.payload import image_payload
from search_core.pictures import ThumbnailCache, file_uri, is_remote, local_path, read_picture
from search_core.points import Payload, Point, point_id
from search_core.settings import Settings
from serve_app.messages import Encoded, Pin
from serve_app.pins import Pinning

THUMBNAILERS = 2
"""Thumbnails that one replica makes at a time: each holds a decoded picture."""

SUFFIXES = {"jpeg": ".jpg", "mpo": ".jpg", "tiff": ".tif"}
MEDIA_TYPES = {
    "avif": "image/avif",
    "bmp": "image/bmp",
    "gif": "image/gif",
    "ico": "image/x-icon",
    "jpeg": "image/jpeg",
    "jpeg2000": "image/jp2",
    "mpo": "image/jpeg",
    "png": "image/png",
    "tiff": "image/tiff",
    "webp": "image/webp",
}
"""By Pillow's names: pictures only, so that a browser never runs what it gets. Others are just bytes to it."""
OTHER_MEDIA_TYPE = "application/octet-stream"


class Points(Protocol):
    """The part of `Retrieval` that reads and writes single points."""

    async def point(self, id: str, collection: str) -> Point:
        """One indexed picture."""

    async def add(self, id: str, encoded: Encoded, payload: Payload, collection: str) -> None:
        """Writes one point."""

    async def remove(self, id: str, collection: str) -> None:
        """Deletes one point; one that is not there is no error."""


@dataclass(frozen=True)
class Content:
    """Where a picture's bytes come from: a local file, bytes that were read, or another site's URL."""

    media_type: str
    version: str
    path: Path | None = None
    data: bytes | None = None
    url: str | None = None


@dataclass(frozen=True)
class Upload:
    """What came of an upload. `created` is False when the same bytes had been uploaded before."""

    id: str
    payload: Payload
    collection: str
    created: bool


class Library:
    """What the picture routes call."""

    def __init__(
        self,
        settings: Settings,
        encode_image: Callable[[bytes, ModelSpec], Awaitable[Encoded]],
        points: Points,
        pins: Pinning,
    ) -> None:
        self._limits = settings.image
        self._serve = settings.serve
        self._source = settings.source
        self._media_root = settings.media_root.absolute()
        self._thumbnails = ThumbnailCache(settings.thumbnails, settings.image, settings.source)
        self._encode_image = encode_image
        self._points = points
        self._pins = pins
        self._busy = asyncio.Semaphore(THUMBNAILERS)

    async def point(self, id: str) -> Point:
        """One indexed picture.

        Raises:
            NotFoundError: there is none of this id.
        """
        return await self._pins.answer(None, lambda pin: self._points.point(id, pin.collection))

    async def content(self, id: str) -> Content:
        """The picture itself.

        Raises:
            NotFoundError: it is not indexed, or its file is gone.
        """
        payload = (await self.point(id)).payload
        uri, version = str(payload["uri"]), _version(payload)
        media_type = MEDIA_TYPES.get(str(payload.get("format")), OTHER_MEDIA_TYPE)
        if is_remote(uri):
            return Content(media_type, version, url=uri)
        path = local_path(uri)
        if path is not None and "#" not in uri:
            if not await asyncio.to_thread(path.is_file):
                raise NotFoundError(f"the file of image {id} is not there any more")
            return Content(media_type, version, path=path)
        return Content(media_type, version, data=await asyncio.to_thread(read_picture, uri, self._source))

    async def thumbnail(self, id: str) -> tuple[bytes, str]:
        """A small JPEG of the picture, and the version of its content.

        Raises:
            NotFoundError: it is not indexed, or the picture cannot be had any more.
        """
        payload = (await self.point(id)).payload
        uri, version = str(payload["uri"]), _version(payload)
        async with self._busy:
            found = await asyncio.to_thread(self._thumbnails.find, uri, version)
            if found is None:
                data = await self._read(uri)
                found = await asyncio.to_thread(self._thumbnails.make, uri, version, data)
        return found, version

    async def upload(self, data: bytes, *, name: str | None, captions: Sequence[str]) -> Upload:
        """Keeps a picture under the media root and indexes it at once.

        The same bytes are kept once, and keep their captions unless new ones come with them.

        Raises:
            ImageError: the bytes are no usable picture.
        """
        return await self._pins.answer(None, lambda pin: self._upload(pin, data, name, captions))

    async def _upload(self, pin: Pin, data: bytes, name: str | None, captions: Sequence[str]) -> Upload:
        decoded = await asyncio.to_thread(decode_rgb, data, self._limits)
        digest = hashlib.sha256(data).hexdigest()
        suffix = SUFFIXES.get(decoded.format, f".{decoded.format}")
        path = self._media_root / f"{digest}{suffix}"
        uri = file_uri(path)
        id = point_id(uri)
        before = await self._payload(id, pin)
        encoded = await self._encode_image(data, pin.spec)
        await asyncio.to_thread(_keep, path, data)
        stat = path.stat()
        payload = image_payload(
            uri,
            width=decoded.width,
            height=decoded.height,
            format=decoded.format,
            size_bytes=len(data),
            content_hash=digest,
            source_version=f"{stat.st_size}:{stat.st_mtime_ns}",
            modified=datetime.fromtimestamp(stat.st_mtime, UTC),
            captions=captions or before.get("captions", []),
            extra={"original_name": Path(name).name if name else before.get("original_name")},
        )
        await self._points.add(id, encoded, payload, pin.collection)
        return Upload(id, payload, pin.collection, created=not before)

    async def delete(self, id: str) -> None:
        """Takes a picture out of the index; its file is deleted only if it was uploaded here.

        Raises:
            NotFoundError: there is none of this id.
        """
        payload = (await self._pins.answer(None, lambda pin: self._remove(pin, id))).payload
        uri = str(payload["uri"])
        await asyncio.to_thread(self._thumbnails.forget, uri, _version(payload))
        path = local_path(uri)
        if path is not None and path.resolve().is_relative_to(self._media_root.resolve()):
            path.unlink(missing_ok=True)

    async def _remove(self, pin: Pin, id: str) -> Point:
        """The point that is removed, read first: a removal whose answer was lost is made again."""
        point = await self._points.point(id, pin.collection)
        await self._points.remove(id, pin.collection)
        return point

    async def _read(self, uri: str) -> bytes:
        if not is_remote(uri):
            return await asyncio.to_thread(read_picture, uri, self._source)
        try:
            return await fetch_image(
                uri,
                max_bytes=int(self._limits.max_image_mb * 1e6),
                timeout_s=self._serve.fetch_timeout_s,
                allow_private=self._serve.allow_private_urls,
            )
        except FetchError as error:
            raise NotFoundError(f"the picture at {uri} cannot be had: {error}") from None

    async def _payload(self, id: str, pin: Pin) -> Payload:
        try:
            return (await self._points.point(id, pin.collection)).payload
        except CollectionGoneError:
            raise
        except NotFoundError:
            return {}


def _version(payload: Payload) -> str:
    return str(payload.get("content_hash") or payload.get("source_version") or "")


def _keep(path: Path, data: bytes) -> None:
    """Writes a file in one step, unless it is there."""
    if path.is_file() and path.stat().st_size == len(data):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        f".{path.name}.{uuid.uuid4().hex}.tmp"
    )  # the same bytes may come twice at once
    temporary.write_bytes(data)
    temporary.replace(path)
