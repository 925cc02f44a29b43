"""Filters over payload fields, one small form for every store.

`{"folder": "cats"}` matches a value, `{"format": ["jpeg", "png"]}` any of several, and
`{"width": {"gte": 640, "lt": 2000}}` a range of numbers (gt, gte, lt, lte). All fields must match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_core.errors import QueryError

BOUNDS = ("gt", "gte", "lt", "lte")
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
    return tuple(_condition(field, value) for field, value in (raw or {}).items())


def _condition(field: str, value: Any) -> Condition:
    if isinstance(value, (str, int, bool)):
        return AnyOf(field, (value,))
    if isinstance(value, (list, tuple)) and value and {type(one) for one in value} in ({str}, {int}):
        return AnyOf(field, tuple(value))
    if isinstance(value, Mapping) and value and all(_is_bound(key, one) for key, one in value.items()):
        return Between(field, tuple((key, float(one)) for key, one in value.items()))
    raise QueryError(
        f"filter {field!r}: give a value, a list of texts or of whole numbers, or bounds such as {{'gte': 640}} ({', '.join(BOUNDS)})"
    )


def _is_bound(key: Any, value: Any) -> bool:
    return key in BOUNDS and isinstance(value, (int, float)) and not isinstance(value, bool)
