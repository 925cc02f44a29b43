"""Captions that come along with pictures inside tables and tars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

CAPTION_NAMES = ("caption", "captions", "text", "texts", "alt_text", "sentence", "sentences", "description")


def caption_name(names: Iterable[str], named: str | None) -> str | None:
    """Which column or key holds the captions: the named one, else the first that is called so in any case."""
    lower = {name.lower(): name for name in names}
    if named is not None:
        return named if named in lower.values() else None
    return next((lower[name] for name in CAPTION_NAMES if name in lower), None)


def caption_texts(value: Any) -> tuple[str, ...]:
    """A text or a list of texts as captions; nothing for other values."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return tuple(text.strip() for text in values if isinstance(text, str) and text.strip())
