"""Reading indexed pictures back, and their thumbnails."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from pathlib import Path

from PIL import Image

from search_core.addresses import file_uri as file_uri
from search_core.addresses import is_remote as is_remote
from search_core.addresses import local_path as local_path
from search_core.addresses import split_inside
from search_core.containers import read_inside
from search_core.errors import ImageError, NotFoundError
from search_core.image import decode_rgb
from search_core.object_store import STORE_ERRORS, open_filesystem
from search_core.settings import ImageSettings, SourceSettings

THUMBNAIL_TYPE = "image/jpeg"
THUMBNAIL_QUALITY = 85


def read_picture(uri: str, source: SourceSettings | None = None) -> bytes:
    """The bytes of an indexed picture: a file, an object, a row of a table or a member of a tar.

    Raises:
        NotFoundError: it is not there any more, or cannot be read.
    """
    settings = source or SourceSettings()
    try:
        if split_inside(uri) is not None:
            return read_inside(uri, settings)
        if path := local_path(uri):
            return path.read_bytes()
        filesystem, inner = open_filesystem(uri, settings)
        with filesystem.open_input_file(inner) as file:
            return bytes(file.read())
    except (*STORE_ERRORS, ImageError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotFoundError(f"the picture's file cannot be read: {uri} ({line})") from None


def make_thumbnail(data: bytes, limits: ImageSettings) -> bytes:
    """A JPEG of at most `thumbnail_px` on its longer side.

    Raises:
        ImageError: as `decode_rgb`.
    """
    side = limits.thumbnail_px
    image = decode_rgb(data, limits, min_side=side // 2).rgb
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return out.getvalue()


class ThumbnailCache:
    """Thumbnails in a folder, made at first use; a changed picture has another name, so nothing goes stale."""

    def __init__(self, folder: Path, limits: ImageSettings, source: SourceSettings | None = None) -> None:
        self._folder = folder
        self._limits = limits
        self._source = source

    def get(self, uri: str, version: str) -> bytes:
        """The thumbnail of the picture at `uri`, whose content is of `version`.

        Raises:
            NotFoundError: the picture is not there any more, or is no picture now.
        """
        return self.find(uri, version) or self.make(uri, version, read_picture(uri, self._source))

    def find(self, uri: str, version: str) -> bytes | None:
        """The thumbnail, if it was made before."""
        path = self._path(uri, version)
        return path.read_bytes() if path.is_file() else None

    def make(self, uri: str, version: str, data: bytes) -> bytes:
        """Makes and keeps the thumbnail of a picture file's bytes.

        Raises:
            NotFoundError: they are no picture.
        """
        try:
            thumbnail = make_thumbnail(data, self._limits)
        except ImageError as error:
            raise NotFoundError(f"no thumbnail of {uri}: {error}") from None
        path = self._path(uri, version)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        temporary.write_bytes(thumbnail)
        temporary.replace(path)
        return thumbnail

    def forget(self, uri: str, version: str) -> None:
        """Deletes the thumbnail of a picture that is no longer indexed."""
        self._path(uri, version).unlink(missing_ok=True)

    def _path(self, uri: str, version: str) -> Path:
        key = hashlib.sha256(f"{uri}\n{version}\n{self._limits.thumbnail_px}".encode()).hexdigest()
        return self._folder / key[:2] / f"{key}.jpg"
