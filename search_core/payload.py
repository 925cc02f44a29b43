"""The payload of a picture: the same fields whether the batch pipeline or an upload wrote it.

==============  ==========================================================================================
uri             where the picture is
folder          name of the folder that holds it (of the archive or table, for `archive#member`)
file_name       its file name
format          as Pillow names it, lower case: jpeg, png, webp
width, height   pixels of the upright picture
orientation     landscape, portrait or square
bytes           size of the file
modified        when the source changed last, RFC 3339 in UTC with microseconds; absent if unknown
content_hash    SHA-256 of the file, hex
source_version  what tells a changed source without reading it: `size:mtime_ns`, or an ETag
caption         the first caption; absent if there is none
captions        all captions; absent if there are none
(others)        columns of the source, under their own names
==============  ==========================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from search_core.addresses import host_and_path, split_inside
from search_core.points import Payload

RESERVED = frozenset(
    {
        "uri", "folder", "file_name", "format", "width", "height", "orientation", "bytes", "modified",
        "content_hash", "source_version", "caption", "captions",
    }
)  # fmt: skip
RENAMED_PREFIX = "source_"
LARGEST_INTEGER = 2**63 - 1


def image_payload(
    uri: str,
    *,
    width: int,
    height: int,
    format: str,  # noqa: A002 - the field's name
    size_bytes: int,
    content_hash: str,
    source_version: str,
    modified: datetime | None = None,
    captions: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> Payload:
    """The payload to store. `width` and `height` are of the upright original; see the module for the fields.

    A column of `extra` named as one of our fields is kept as `source_<name>`; columns that are null or no JSON are
    left out.
    """
    folder, file_name = folder_and_name(uri)
    payload: Payload = {
        "uri": uri,
        "folder": folder,
        "file_name": file_name,
        "format": format,
        "width": width,
        "height": height,
        "orientation": orientation_of(width, height),
        "bytes": size_bytes,
        "content_hash": content_hash,
        "source_version": source_version,
    }
    if modified is not None:
        payload["modified"] = rfc3339(modified)
    texts = [text for caption in captions if (text := _encodable(caption.strip()))]
    if texts:
        payload["caption"] = texts[0]
        payload["captions"] = texts
    return {**_columns(extra or {}), **payload}


def orientation_of(width: int, height: int) -> str:
    """landscape, portrait or square."""
    if width == height:
        return "square"
    return "landscape" if width > height else "portrait"


def rfc3339(moment: datetime) -> str:
    """A moment in UTC with microseconds, so that equal lengths sort by time; a naive one is taken as UTC."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.strftime("%Y-%m-%dT%H:%M:%S.") + f"{aware.microsecond:06d}Z"


def folder_and_name(uri: str) -> tuple[str, str]:
    """The names of the folder and of the file; a URL without a folder gives its host."""
    inside = split_inside(uri)
    if inside is not None:
        container, member = inside
        return folder_and_name(container)[1], member.rpartition("/")[2]
    host, path = host_and_path(uri)
    segments = [segment for segment in path.split("/") if segment]
    name = segments.pop() if segments else host
    return (segments[-1] if segments else host), name


def _columns(extra: Mapping[str, Any]) -> Payload:
    """Source columns as plain JSON values."""
    plain = ((_encodable(str(name)), _plain(value)) for name, value in extra.items())
    return {
        (RENAMED_PREFIX + name if name in RESERVED else name): value
        for name, value in plain
        if value is not None
    }


def _encodable(text: str) -> str:
    """A text that UTF-8 can carry: JSON may name half of a surrogate pair, which no store takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _plain(value: Any) -> Any:
    """A value as JSON has it, or None where it has none: bytes, NaN, unknown objects."""
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= LARGEST_INTEGER else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_encodable(str(key)): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):  # numpy, without importing it for the sake of a check
        return _plain(value.tolist())
    return None
