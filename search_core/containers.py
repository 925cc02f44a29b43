"""Pictures inside other files: rows of Parquet tables and members of tars, local or in an object store.

A picture's address is its container's with a fragment: `#<row group>.<row in the group>`, or `#<name of the member>`.
The fragment is percent-encoded where the container's own address is (`file://`), and as it is in object stores.
"""

from __future__ import annotations

import functools
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from search_core.addresses import local_path, split_inside
from search_core.errors import ImageError, SourceError
from search_core.object_store import STORE_ERRORS, open_filesystem
from search_core.settings import SourceSettings

PARQUET = ".parquet"
BATCH_BYTES = 32_000_000
MAX_BATCH_ROWS = 4096
BUFFER_BYTES = 1 << 18
IMAGE_NAMES = (
    "image", "img", "picture", "photo", "bytes", "image_bytes", "content", "data", "jpg", "jpeg", "png", "webp",
)  # fmt: skip
REMEMBERED = 8
"""Tars and tables whose contents are remembered."""


def is_table(container: str) -> bool:
    """Whether a container is a Parquet file, going by its name."""
    return container.lower().endswith(PARQUET)


def open_random(uri: str, settings: SourceSettings) -> Any:
    """A local file or an object, open for reading anywhere: a pyarrow file, to be used in a `with`.

    Raises:
        OSError, ValueError: it is not there or cannot be read.
    """
    path = local_path(uri)
    if path is not None:
        return pa.PythonFile(
            path.open("rb"), mode="r"
        )  # by way of Python, since pyarrow knows only UTF-8 paths
    filesystem, inner = open_filesystem(uri, settings)
    return filesystem.open_input_file(inner)


def read_inside(uri: str, settings: SourceSettings) -> bytes:
    """One picture out of its container.

    Raises:
        ImageError: it is not there, or cannot be read.
    """
    container, inside = split_inside(uri) or (uri, "")
    if is_table(container):
        group, row = parse_row(inside)
        (found,) = read_rows(container, group, [row], settings)
    else:
        (found,) = read_members(container, [(inside, "")], None, settings)
    if isinstance(found, ImageError):
        raise found
    return found


def holds(uri: str, settings: SourceSettings) -> bool:
    """Whether a container that is there has a row or member of that address.

    Raises:
        OSError, ValueError, tarfile.TarError: it cannot be read.
    """
    container, inside = split_inside(uri) or (uri, "")
    version = _version(container, settings)
    if not is_table(container):
        return inside in _index(container, version, settings)
    try:
        group, row = parse_row(inside)
    except ImageError:
        return False
    counts = _row_counts(container, version, settings)
    return group < len(counts) and row < counts[group]


# --- rows of Parquet tables ---


def image_column(schema: pa.Schema, named: str | None) -> str | None:
    """The path of the column with the bytes of pictures: binary, or a struct with `bytes` as Hugging Face has it.

    Raises:
        SourceError: the named one is not there or holds no bytes, or several might be meant.
    """
    paths = {field.name: path for field in schema if (path := _bytes_path(field)) is not None}
    if named is not None:
        if named not in paths:
            raise SourceError(f"no column {named!r} with bytes; there are: {', '.join(schema.names)}")
        return paths[named]
    for name in IMAGE_NAMES:
        for found in paths:
            if found.lower() == name:
                return paths[found]
    if len(paths) > 1:
        raise SourceError(f"name the column of pictures (source.image_column), one of: {', '.join(paths)}")
    return next(iter(paths.values()), None)


def _bytes_path(field: pa.Field) -> str | None:
    if is_binary(field.type):
        return str(field.name)
    if pa.types.is_struct(field.type):
        inner = field.type.get_field_index("bytes")
        if inner >= 0 and is_binary(field.type.field(inner).type):
            return f"{field.name}.bytes"
    return None


def is_binary(kind: pa.DataType) -> bool:
    """Whether values are bytes of any length."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def row_batches(
    file: pq.ParquetFile, group: int, columns: Sequence[str], at_once: int = BATCH_BYTES
) -> Iterator[pa.RecordBatch]:
    """One row group's columns in batches of about `at_once` bytes."""
    meta = file.metadata.row_group(group)
    wanted = tuple(columns)
    size = sum(
        chunk.total_uncompressed_size
        for chunk in (meta.column(number) for number in range(meta.num_columns))
        if any(chunk.path_in_schema == name or chunk.path_in_schema.startswith(f"{name}.") for name in wanted)
    )
    each = max(1, size // max(1, meta.num_rows))
    rows = max(1, min(MAX_BATCH_ROWS, at_once // each))
    yield from file.iter_batches(batch_size=rows, row_groups=[group], columns=list(wanted), use_threads=False)


def parse_row(inside: str) -> tuple[int, int]:
    """The row group and the row in it.

    Raises:
        ImageError: it names no row.
    """
    group, separator, row = inside.partition(".")
    if not (separator and group.isascii() and group.isdigit() and row.isascii() and row.isdigit()):
        raise ImageError("missing", f"{inside!r} names no row")
    return int(group), int(row)


@functools.lru_cache(maxsize=REMEMBERED)
def _row_counts(container: str, version: str, settings: SourceSettings) -> tuple[int, ...]:
    """Rows of each row group; `version` is of the table."""
    with open_random(container, settings) as source, pq.ParquetFile(source) as file:
        return tuple(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))


def read_rows(
    container: str, group: int, rows: Sequence[int], settings: SourceSettings
) -> Iterator[bytes | ImageError]:
    """The pictures in some rows of one row group, in the order asked for; one pass if that is theirs."""
    given = 0
    try:
        with open_random(container, settings) as source, pq.ParquetFile(source, pre_buffer=False) as file:
            column = image_column(file.schema_arrow, settings.image_column)
            if column is None:
                raise ImageError("missing", "the table has no column with pictures")
            if group >= file.num_row_groups:
                raise ImageError("missing", f"the table has no row group {group}")
            while given < len(rows):
                for value in _one_pass(file, group, column, rows[given:]):
                    given += 1
                    yield value
    except ImageError as error:
        problem = error
    except SourceError as error:
        problem = ImageError("missing", str(error))
    except FileNotFoundError:
        problem = ImageError("missing", "the table is not there")
    except STORE_ERRORS as error:
        problem = ImageError("unreadable", f"the table cannot be read: {_line(error)}")
    for _ in rows[given:]:
        yield problem


def _one_pass(
    file: pq.ParquetFile, group: int, column: str, rows: Sequence[int]
) -> Iterator[bytes | ImageError]:
    """As many of the rows, from the first, as come in rising order."""
    count = file.metadata.row_group(group).num_rows
    wanted = iter(rows)
    row = next(wanted)
    start = 0
    if row < count:
        for batch in row_batches(file, group, [column]):
            values = batch.column(0)
            if isinstance(values, pa.StructArray):
                values = _inner_bytes(values)
            while start <= row < start + len(values):
                data = values[row - start].as_py()
                yield ImageError("missing", "the row has no picture") if data is None else data
                before, row = row, next(wanted, -1)
                if row < before:  # the end, or a row that this pass has left behind
                    return
            start += len(values)
            if row >= count:
                break
    if row >= count:
        yield ImageError("missing", f"row group {group} of the table has no row {row}")


def _inner_bytes(values: pa.StructArray) -> pa.Array:
    """The field `bytes` of structs, null where the struct is."""
    return pc.struct_field(values, "bytes")


# --- members of tars ---


@contextmanager
def open_tar(uri: str, settings: SourceSettings) -> Iterator[tarfile.TarFile]:
    """A tar to walk through: headers are read, members are passed over.

    Raises:
        OSError, ValueError, tarfile.TarError: it cannot be read.
    """
    with (
        open_random(uri, settings) as source,
        io.BufferedReader(source, BUFFER_BYTES) as buffered,
        tarfile.open(fileobj=buffered, mode="r:", errors="replace") as tar,
    ):
        yield tar


def read_members(
    container: str, members: Sequence[tuple[str, str]], max_bytes: int | None, settings: SourceSettings
) -> Iterator[bytes | ImageError]:
    """Members of one tar, each given as its name and where it is expected (`offset=..;size=..`, or empty)."""
    given = 0
    try:
        with open_random(container, settings) as file:
            version = ""
            for name, expected in members:
                place = parse_expected(expected)
                offset, size = int(place.get("offset", -1)), int(place.get("size", -1))
                if offset < 0 or not _is_member(file, offset, size):
                    version = version or _version(container, settings)
                    offset, size = _index(container, version, settings).get(name, (-1, 0))
                yield _member(file, name, offset, size, max_bytes)
                given += 1
    except FileNotFoundError:
        problem = ImageError("missing", "the tar is not there")
    except (*STORE_ERRORS, tarfile.TarError) as error:
        problem = ImageError("unreadable", f"the tar cannot be read: {_line(error)}")
    for _ in members[given:]:
        yield problem


def parse_expected(expected: str) -> Mapping[str, str]:
    """`size=123;md5=...` by name."""
    return {name: value for part in expected.split(";") if part for name, _, value in [part.partition("=")]}


def _member(file: Any, name: str, offset: int, size: int, max_bytes: int | None) -> bytes | ImageError:
    if offset < 0:
        return ImageError("missing", f"the tar has no member {name!r}")
    if max_bytes is not None and size > max_bytes:
        return ImageError("too_many_bytes", too_large(size, max_bytes))
    data = _read_at(file, size, offset)
    if len(data) < size:
        return ImageError("truncated", f"the tar ends inside {name!r}")
    return data


def _read_at(file: Any, size: int, offset: int) -> bytes:
    file.seek(offset)
    return bytes(file.read(size))


def _is_member(file: Any, offset: int, size: int) -> bool:
    """Whether a member of that size begins there: the tar may have been replaced since it was listed."""
    try:
        header = tarfile.TarInfo.frombuf(
            _read_at(file, tarfile.BLOCKSIZE, offset - tarfile.BLOCKSIZE), "utf-8", "replace"
        )
    except (tarfile.TarError, OSError, ValueError):
        return False
    return header.isreg() and header.size == size


@functools.lru_cache(maxsize=REMEMBERED)
def _index(container: str, version: str, settings: SourceSettings) -> Mapping[str, tuple[int, int]]:
    """Offset and size of each member; `version` is of the tar, so that a replaced one is walked through anew."""
    with open_tar(container, settings) as tar:
        return {info.name: (info.offset_data, info.size) for info in tar if info.isreg()}


def _version(container: str, settings: SourceSettings) -> str:
    path = local_path(container)
    if path is not None:
        status = path.stat()
        return f"{status.st_size}:{status.st_mtime_ns}"
    filesystem, inner = open_filesystem(container, settings)
    info = filesystem.get_file_info(inner)
    if info.type != fs.FileType.File:
        raise FileNotFoundError(container)
    return f"{info.size}:{info.mtime_ns}"


def too_large(size: int, max_bytes: int) -> str:
    """What to say of a picture above the limit."""
    return f"{size / 1e6:.1f} MB is more than the limit of {max_bytes / 1e6:g} MB"


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
