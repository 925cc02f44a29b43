"""Parquet files: pictures in a column of bytes, or addresses of them in a column of URLs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batch_index.sources.captions_inside import caption_name, caption_texts
from batch_index.sources.files import ListedFile
from batch_index.sources.source import SourceItem
from search_core.addresses import is_remote, join_inside
from search_core.containers import image_column, is_binary, open_random, row_batches
from search_core.errors import SourceError
from search_core.object_store import STORE_ERRORS
from search_core.settings import SourceSettings

URL_NAMES = ("url", "image_url", "img_url", "picture_url", "photo_url", "imageurl")


def table_items(file: ListedFile, settings: SourceSettings) -> Iterator[SourceItem]:
    """One item a row, row group after row group; the pictures themselves are not read.

    Raises:
        SourceError: the file cannot be read, or has no such columns.
    """
    try:
        with open_random(file.uri, settings) as source, pq.ParquetFile(source) as table:
            yield from _rows(file, table, settings)
    except SourceError as error:
        raise SourceError(f"{file.uri}: {error}") from None
    except STORE_ERRORS as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{file.uri} cannot be read: {line}") from None


def _rows(file: ListedFile, table: pq.ParquetFile, settings: SourceSettings) -> Iterator[SourceItem]:
    schema = table.schema_arrow
    pictures = image_column(schema, settings.image_column) if _wants_bytes(settings) else None
    urls = _url_column(schema, settings) if pictures is None else None
    if pictures is None and urls is None:
        raise SourceError(
            f"no column with pictures or URLs (source.image_column, source.url_column) among: {', '.join(schema.names)}"
        )
    plain = [field.name for field in schema if field.name == urls or _is_plain(field.type)]
    captions = caption_name((name for name in plain if name != urls), settings.caption_column)
    if settings.caption_column is not None and captions is None:
        raise SourceError(f"no column {settings.caption_column!r}; there are: {', '.join(schema.names)}")
    for group in range(table.num_row_groups):
        for row, values in enumerate(_values(table, group, plain)):
            if urls is not None:
                uri, version = values.pop(urls), ""
                if not isinstance(uri, str) or not is_remote(uri):
                    continue  # a row without a picture
            else:
                uri, version = join_inside(file.uri, f"{group}.{row}"), file.version
            texts = caption_texts(values.pop(captions)) if captions is not None else ()
            yield SourceItem(uri, version, 0, file.modified if urls is None else None, texts, values)


def _values(table: pq.ParquetFile, group: int, columns: list[str]) -> Iterator[dict[str, Any]]:
    if not columns:
        yield from ({} for _ in range(table.metadata.row_group(group).num_rows))
        return
    for batch in row_batches(table, group, columns):
        yield from batch.to_pylist()


def _wants_bytes(settings: SourceSettings) -> bool:
    """A named URL column means that the bytes that may be there as well are not the pictures."""
    return settings.image_column is not None or settings.url_column is None


def _url_column(schema: pa.Schema, settings: SourceSettings) -> str | None:
    if settings.url_column is not None:
        if settings.url_column not in schema.names:
            raise SourceError(f"no column {settings.url_column!r}; there are: {', '.join(schema.names)}")
        return settings.url_column
    lower = {field.name.lower(): field.name for field in schema if _is_text(field.type)}
    return next((lower[name] for name in URL_NAMES if name in lower), None)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_plain(kind: pa.DataType) -> bool:
    """Whether values are worth keeping beside a picture: no bytes anywhere inside, and no vectors."""
    if pa.types.is_struct(kind):
        return all(_is_plain(kind.field(number).type) for number in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return not pa.types.is_floating(kind.value_type) and _is_plain(kind.value_type)
    return not (is_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_null(kind))
