"""Addresses of pictures: local files, web pages, and things inside containers."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

INSIDE = re.compile(r"(?P<container>.+?\.(?:parquet|tar))#(?P<inside>.+)", re.IGNORECASE | re.DOTALL)


def is_remote(uri: str) -> bool:
    """Whether browsers can fetch the picture from its source themselves."""
    return uri.lower().startswith(("http://", "https://"))  # lists hold what urlsplit cannot take


def local_path(uri: str) -> Path | None:
    """The file behind a `file://` URI, or None for another kind."""
    if not uri.lower().startswith("file:"):
        return None
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))


def file_uri(path: Path) -> str:
    """The URI of a local file."""
    return path.absolute().as_uri()


def host_and_path(uri: str) -> tuple[str, str]:
    """The host or bucket, and the path or key.

    Object-store keys are taken as they are, `#` and `?` included; `file` and `http(s)` URIs are percent-decoded.
    """
    if uri.lower().startswith(("file:", "http:", "https:")):
        parts = urlsplit(uri)
        return parts.netloc, unquote(parts.path)
    host, _, path = uri.partition("://")[2].partition("/")
    return host, path


def split_inside(uri: str) -> tuple[str, str] | None:
    """A container's address and what is named inside it; None for the address of a file, an object or a page."""
    if "#" not in uri or is_remote(uri):
        return None
    found = INSIDE.fullmatch(uri)
    if found is None:
        return None
    inside = found["inside"]
    if uri.startswith("file:"):
        inside = unquote(inside)
    return found["container"], inside


def join_inside(container: str, inside: str) -> str:
    """The address of something inside a container."""
    if container.startswith("file:"):
        inside = quote(inside)
    return f"{container}#{inside}"
