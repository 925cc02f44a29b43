"""What the page's fields ask for, as a search request of the HTTP contract."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WITHOUT_WEIGHT = -0.5
DEFAULT_LIMIT = 24
BALANCED = 0.5
_MAX_NAME = 200


@dataclass(frozen=True)
class Similar:
    """The indexed picture that somebody asked for more of."""

    image_id: str
    name: str

    @classmethod
    def from_event(cls, data: Any) -> Similar | None:
        """Read what a click sent; a browser can send anything, so anything else is no picture."""
        if not isinstance(data, Mapping):
            return None
        image_id, name = data.get("id"), data.get("name")
        if not isinstance(image_id, str) or not image_id.strip():
            return None
        return cls(image_id.strip(), str(name or image_id)[:_MAX_NAME])


@dataclass(frozen=True)
class Form:
    """Everything the page lets people say. `weight` is the picture's share against the words, 0 to 1."""

    text: str = ""
    without: str = ""
    picture: bytes | None = None
    similar: Similar | None = None
    weight: float = BALANCED
    limit: int = DEFAULT_LIMIT


def search_request(form: Form, max_results: int) -> dict[str, Any] | None:
    """The request for this form, or None when it neither says nor shows what to look for."""
    terms = _wanted_terms(form)
    if not terms:
        return None
    if without := form.without.strip():
        terms.append({"text": without, "weight": WITHOUT_WEIGHT})
    return {"terms": terms, "limit": min(max(int(form.limit), 1), max_results), "offset": 0}


def _wanted_terms(form: Form) -> list[dict[str, Any]]:
    text = form.text.strip()
    words: dict[str, Any] | None = {"text": text} if text else None
    shown = _shown_term(form)
    if words is None or shown is None:
        return [term for term in (words, shown) if term is not None]
    share = min(max(form.weight, 0.0), 1.0)
    weighted = [{**words, "weight": round(1 - share, 3)}, {**shown, "weight": round(share, 3)}]
    return [term for term in weighted if term["weight"] > 0]


def _shown_term(form: Form) -> dict[str, Any] | None:
    if form.picture:
        return {"image_base64": base64.b64encode(form.picture).decode("ascii")}
    return {"image_id": form.similar.image_id} if form.similar else None
