"""WebDataset tars: members that share a key (the name up to the first dot of its last part) are one sample."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from batch_index.sources.captions_inside import caption_name, caption_texts
from batch_index.sources.files import PICTURE_SUFFIXES, ListedFile, suffix_of
from batch_index.sources.source import SourceItem
from search_core.addresses import join_inside
from search_core.containers import open_tar
from search_core.errors import SourceError
from search_core.object_store import STORE_ERRORS
from search_core.settings import SourceSettings

MAX_TEXT_BYTES = 1_000_000


@dataclass
class _Sample:
    """The members of one key, as far as they are of use."""

    key: str
    pictures: list[tarfile.TarInfo] = field(default_factory=list)
    text: str = ""
    described: dict[str, Any] = field(default_factory=dict)


def tar_items(file: ListedFile, settings: SourceSettings) -> Iterator[SourceItem]:
    """One item an image member, with the captions of its sample's `.txt` and `.json` members.

    Raises:
        SourceError: the tar cannot be read to its end.
    """
    try:
        with open_tar(file.uri, settings) as tar:
            for sample in _samples(tar):
                yield from _items(file, sample, settings)
            _require_end(tar)
    except (*STORE_ERRORS, tarfile.TarError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{file.uri} cannot be read: {line}") from None


def _require_end(tar: tarfile.TarFile) -> None:
    """To `tarfile`, a broken header and the end of the file are ends like the empty block that every tar ends with."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"it breaks off after {tar.offset} bytes")


def _samples(tar: tarfile.TarFile) -> Iterator[_Sample]:
    """WebDataset keeps the members of a sample together."""
    sample: _Sample | None = None
    for info in tar:
        tar.members = []  # type: ignore[attr-defined] # else it remembers all of them
        folder, _, name = info.name.rpartition("/")
        if not info.isreg() or name.startswith("."):
            continue
        key = f"{folder}/{name.partition('.')[0]}"
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = _Sample(key)
        _add(sample, tar, info)
    if sample is not None:
        yield sample


def _add(sample: _Sample, tar: tarfile.TarFile, info: tarfile.TarInfo) -> None:
    suffix = suffix_of(info.name)
    if suffix in PICTURE_SUFFIXES:
        sample.pictures.append(info)
    elif suffix in {".txt", ".json"} and info.size <= MAX_TEXT_BYTES:
        member = tar.extractfile(info)
        text = member.read().decode("utf-8", "replace") if member is not None else ""
        if suffix == ".txt":
            sample.text = text
            return
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return  # of no use, but no reason to miss the picture
        if isinstance(value, dict):
            sample.described = value


def _items(file: ListedFile, sample: _Sample, settings: SourceSettings) -> Iterator[SourceItem]:
    columns = dict(sample.described)
    name = caption_name(columns, settings.caption_column)
    described = caption_texts(columns.pop(name)) if name is not None else ()
    captions = tuple(dict.fromkeys(caption_texts(sample.text.splitlines()) + described))
    for info in sample.pictures:
        yield SourceItem(
            join_inside(file.uri, info.name),
            file.version,
            info.size,
            file.modified,
            captions,
            columns,
            f"offset={info.offset_data};size={info.size}",
        )
