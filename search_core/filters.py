"""Filters over payload fields, one small form for every store.

`{"folder": "cats"}` matches a value, `{"format": ["jpeg", "png"]}` any of several, and
`{"width": {"gte": 640, "lt": 2000}}` a range of numbers (gt, gte, lt, lte). All fields must match.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_core.errors import QueryError
from search_core.points import INTEGER_FIELDS

BOUNDS = ("gt", "gte", "lt", "lte")
INTEGERS = range(-(2**63), 2**63)
MAX_FIELDS = 32
MAX_VALUES = 1_000
MAX_CHARS = 4_096
PLAIN_FIELD = re.compile(r"[A-Za-z0-9_-]{1,100}(\.[A-Za-z0-9_-]{1,100}){0,9}")
Scalar = str | int | bool


@dataclass(frozen=True)
class AnyOf:
    """The field holds one of these values."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Between:
    """The field's number lies within the bounds given."""

    field: str
    bounds: tuple[tuple[str, float], ...]


Condition = AnyOf | Between
Filter = tuple[Condition, ...]


def parse_filter(raw: Mapping[str, Any] | None) -> Filter:
    """Checks and freezes a filter as the API takes it.

    Raises:
        QueryError: a value of a kind that cannot be matched.
    """
    if raw and len(raw) > MAX_FIELDS:
        raise QueryError(f"filter: at most {MAX_FIELDS} fields, not {len(raw)}")
    return tuple(_condition(_path(field), value) for field, value in (raw or {}).items())


def _path(field: str) -> str:
    """The field as Qdrant's JSON paths name it: words joined by dots as they are, anything else in quotes."""
    if PLAIN_FIELD.fullmatch(field):
        return field
    if not _is_text(field) or not field or '"' in field or not field.isprintable():
        raise QueryError(f"filter: {field[:50]!r} is no name of a field")
    return f'"{field}"'


def _condition(field: str, value: Any) -> Condition:
    if _is_scalar(value):
        return AnyOf(field, (value,))
    if (
        isinstance(value, (list, tuple))
        and {type(one) for one in value} in ({str}, {int})
        and all(map(_is_scalar, value))
        and len(value) <= MAX_VALUES
    ):
        return AnyOf(field, tuple(value))
    if isinstance(value, Mapping) and value and all(_is_bound(key, one) for key, one in value.items()):
        return Between(field, tuple((key, _bound(field, key, one)) for key, one in value.items()))
    raise QueryError(
        f"filter {field!r}: give a value, a list of texts or of whole numbers, or bounds such as {{'gte': 640}} ({', '.join(BOUNDS)})"
    )


def _bound(field: str, key: str, value: float) -> float:
    """The bound as a store takes it: an index of whole numbers would cut the fraction off."""
    if field in INTEGER_FIELDS:
        return float(math.ceil(value) if key in {"gte", "lt"} else math.floor(value))
    return float(value)


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    return isinstance(value, int) and value in INTEGERS


def _is_text(value: str) -> bool:
    """Short enough to match on, and no half of a surrogate pair, which JSON can carry and UTF-8 cannot."""
    return len(value) <= MAX_CHARS and not any("\ud800" <= char <= "\udfff" for char in value)


def _is_bound(key: Any, value: Any) -> bool:
    if key not in BOUNDS or isinstance(value, bool):
        return False
    return (isinstance(value, float) and math.isfinite(value)) or (
        isinstance(value, int) and value in INTEGERS
    )
