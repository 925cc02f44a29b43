"""Search results as HTML. Captions and file names come from strangers: every string is escaped here."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4

from serve_app.ui.requests import Similar

START = (
    "What are you looking for?",
    "Describe a picture in your own words, show one that is like it, or do both at once.",
)
NOTHING_ASKED = (
    "Nothing to look for yet",
    "Type a few words, or add a picture, and press Enter.",
)
NOTHING_INDEXED = (
    "There are no pictures here yet",
    "Once a folder has been indexed with “image-search index FOLDER”, its pictures can be found here.",
)
NOTHING_FOUND = (
    "No picture matches",
    "Try fewer or plainer words, or move the balance between words and picture.",
)


def results_html(response: Mapping[str, Any]) -> str:
    """The pictures found, or words when there are none.

    The wrapper's tag changes with every answer: Gradio patches the old HTML node by node, and would
    otherwise show the old picture above the new caption until the new picture has arrived.
    """
    hits = response.get("hits") or []
    if not hits:
        return message_html(*(NOTHING_FOUND if response.get("total_indexed") else NOTHING_INDEXED))
    best = max(_number(hit.get("score")) for hit in hits)
    cards = "".join(card_html(hit, best) for hit in hits)
    tag = f"answer-{uuid4().hex[:8]}"
    return f'<{tag} class="answer"><ol class="cards">{cards}</ol></{tag}>'


def card_html(hit: Mapping[str, Any], best: float) -> str:
    """One result: picture, caption or file name, score with a bar relative to the best, and what to do."""
    image_id, name, score = str(hit.get("id", "")), picture_name(hit), _number(hit.get("score"))
    thumbnail = _local_url(hit.get("thumbnail_url"), image_id, "thumbnail")
    content = _local_url(hit.get("image_url"), image_id, "content")
    label, file_name = escape(name), escape(_file_name(hit))
    return (
        f'<li class="card" data-id="{escape(image_id)}" data-name="{label}" data-file="{file_name}"'
        f' data-score="{score:.3f}" data-full="{escape(content)}">'
        f'<button type="button" class="card-open" aria-label="Enlarge: {label}">'
        f'<img src="{escape(thumbnail)}" alt="{label}" loading="lazy" decoding="async"></button>'
        f'<p class="card-name" title="{label}">{label}</p>'
        f'<div class="card-foot"><span class="card-score" title="Similarity, 1 is identical">{score:.3f}'
        f'<i class="bar"><b style="width:{_share(hit, score, best):.0%}"></b></i></span>'
        f'<button type="button" class="card-more" aria-label="More like this: {label}">More like this</button>'
        "</div></li>"
    )


def status_html(response: Mapping[str, Any]) -> str:
    """One line about the answer: how many of how many, how long it took, which model."""
    shown, total = len(response.get("hits") or []), int(_number(response.get("total_indexed")))
    parts = [f"<b>{shown:,}</b> of {total:,} {'picture' if total == 1 else 'pictures'}"]
    timings = response.get("timings_ms") or {}
    if timings:
        milliseconds = timings.get("total", sum(_number(value) for value in timings.values()))
        parts.append(f"{_number(milliseconds):,.0f} ms")
    if model := response.get("model"):
        parts.append(f"model {escape(str(model))}")
    return f'<p class="status-line" role="status">{" <i>·</i> ".join(parts)}</p>'


def busy_html() -> str:
    """The status line while a search runs."""
    return '<p class="status-line busy" role="status">Searching…</p>'


def similar_html(similar: Similar | None) -> str:
    """The removable chip that names the picture more of which is being shown."""
    if similar is None:
        return ""
    name, thumbnail = escape(similar.name), escape(_local_url(None, similar.image_id, "thumbnail"))
    return (
        f'<div class="similar-chip"><img src="{thumbnail}" alt=""><span>Similar to <b>{name}</b></span>'
        f'<button type="button" class="similar-drop" aria-label="Stop looking for pictures similar to {name}">'
        "&times;</button></div>"
    )


def message_html(title: str, words: str) -> str:
    """Words in the place of results."""
    return f'<section class="message"><h2>{escape(title)}</h2><p>{escape(words)}</p></section>'


def error_html(words: str) -> str:
    """Words about a search that failed."""
    return (
        '<section class="message message-error" role="alert"><h2>That did not work</h2>'
        f"<p>{escape(words)}</p></section>"
    )


def examples_html(examples: tuple[str, ...]) -> str:
    """Queries to try, one button each."""
    if not examples:
        return ""
    chips = "".join(f'<button type="button" class="example">{escape(words)}</button>' for words in examples)
    return (
        f'<div class="examples-list" role="group" aria-label="Example searches"><span>Try</span>{chips}</div>'
    )


def picture_name(hit: Mapping[str, Any]) -> str:
    """What to call a picture: its caption, else its file name, else its id."""
    caption = (hit.get("payload") or {}).get("caption")
    if isinstance(caption, (list, tuple)):
        caption = next((item for item in caption if item), None)
    return str(caption or "").strip() or _file_name(hit) or str(hit.get("id", ""))


def _file_name(hit: Mapping[str, Any]) -> str:
    stored = (hit.get("payload") or {}).get("file_name")
    path = urlsplit(str(hit.get("uri") or "")).path or str(hit.get("uri") or "")
    return str(stored or unquote(path.rstrip("/").rsplit("/", 1)[-1]))


def _local_url(url: Any, image_id: str, kind: str) -> str:
    """The URL if it stays on this site, else the one the contract gives this picture."""
    if isinstance(url, str) and url.startswith("/") and not url.startswith(("//", "/\\")):
        return url
    return f"/api/images/{quote(image_id, safe='')}/{kind}"


def _share(hit: Mapping[str, Any], score: float, best: float) -> float:
    """How full the bar is: the calibrated relevance where there is one, else the part of the best score."""
    relevance = hit.get("relevance")
    share = _number(relevance) if relevance is not None else score / best if best > 0 else 0.0
    return min(max(share, 0.0), 1.0)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
