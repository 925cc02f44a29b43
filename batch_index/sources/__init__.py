"""Where pictures come from: files, objects, tables, tars and lists, listed without reading a picture."""

from batch_index.sources.files import PICTURE_SUFFIXES
from batch_index.sources.open import open_source
from batch_index.sources.reader import Reader
from batch_index.sources.source import Source, SourceItem

__all__ = ["PICTURE_SUFFIXES", "Reader", "Source", "SourceItem", "open_source"]
