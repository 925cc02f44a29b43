"""Results as HTML: escaped, named, scored, and words where there are none."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from serve_app.ui import results
from serve_app.ui.requests import Similar

NASTY = '<img src=x onerror="alert(1)"> & \'quoted\' "twice" </script><script>'


class Tags(HTMLParser):
    """Collects the tags of a piece of HTML, with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


def hit(**changes: Any) -> dict[str, Any]:
    return {
        "id": "7",
        "score": 0.3124,
        "relevance": None,
        "uri": "file:///data/beach%20day/IMG_1.jpg",
        "payload": {"caption": "a dog on a beach", "file_name": "IMG_1.jpg"},
        "image_url": "/api/images/7/content",
        "thumbnail_url": "/api/images/7/thumbnail",
        "explanation": None,
        **changes,
    }


def response(hits: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {
        "hits": hits,
        "total_indexed": 320,
        "model": "builtin",
        "collection": "images",
        "timings_ms": {"encode": 21.0, "retrieve": 3.0, "total": 38.4},
        **changes,
    }


def test_a_card_has_picture_words_score_and_a_way_on() -> None:
    html = results.card_html(hit(), 0.3124)
    image = Tags(html).named("img")[0]
    assert image["src"] == "/api/images/7/thumbnail"
    assert image["alt"] == "a dog on a beach"
    assert image["loading"] == "lazy"
    card = Tags(html).named("li")[0]
    assert card["data-full"] == "/api/images/7/content"
    assert card["data-id"] == "7"
    assert ">0.312<" in html
    assert "More like this" in html


@pytest.mark.parametrize(
    "strange",
    [
        hit(payload={"caption": NASTY}),
        hit(payload={"file_name": NASTY}),
        hit(payload={}, uri=f"file:///data/{NASTY}"),
        hit(id=NASTY, image_url=None, thumbnail_url=None),
        hit(image_url=f"/{NASTY}", thumbnail_url=f"/{NASTY}"),
    ],
)
def test_nothing_from_strangers_becomes_html(strange: dict[str, Any]) -> None:
    html = results.results_html(response([strange], model=NASTY)) + results.status_html(
        response([strange], model=NASTY)
    )
    tags = Tags(html)
    assert len(tags.named("img")) == 1
    assert not tags.named("script")
    assert not any("onerror" in attributes for _, attributes in tags.found)


def test_chip_examples_and_messages_are_escaped() -> None:
    for html in (
        results.similar_html(Similar(NASTY, NASTY)),
        results.examples_html((NASTY,)),
        results.message_html(NASTY, NASTY),
        results.error_html(NASTY),
    ):
        tags = Tags(html)
        assert not tags.named("script")
        assert not any("onerror" in attributes for _, attributes in tags.found)


@pytest.mark.parametrize(
    "url",
    ["https://elsewhere.example/x.jpg", "//elsewhere.example/x.jpg", "javascript:alert(1)", "/\\x", "", None],
)
def test_pictures_come_from_this_site_only(url: str | None) -> None:
    html = results.card_html(hit(id="a/b", image_url=url, thumbnail_url=url), 1.0)
    assert Tags(html).named("img")[0]["src"] == "/api/images/a%2Fb/thumbnail"
    assert Tags(html).named("li")[0]["data-full"] == "/api/images/a%2Fb/content"


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (hit(), "a dog on a beach"),
        (hit(payload={"caption": ["", "second"]}), "second"),
        (hit(payload={"caption": "  ", "file_name": "IMG_1.jpg"}), "IMG_1.jpg"),
        (hit(payload=None), "IMG_1.jpg"),
        (hit(payload={}, uri="s3://bucket/a%20b.png?version=3"), "a b.png"),
        (hit(payload={}, uri=""), "7"),
    ],
)
def test_a_picture_is_called_by_caption_then_file_then_id(found: dict[str, Any], name: str) -> None:
    assert results.picture_name(found) == name


@pytest.mark.parametrize(
    ("found", "width"),
    [
        (hit(score=0.3), "100%"),
        (hit(score=0.15), "50%"),
        (hit(score=-0.2), "0%"),
        (hit(relevance=0.25), "25%"),
        (hit(relevance=7), "100%"),
    ],
)
def test_the_bar_shows_relevance_or_the_part_of_the_best(found: dict[str, Any], width: str) -> None:
    assert f"width:{width}" in results.card_html(found, 0.3)


def test_negative_scores_do_not_break_the_bars() -> None:
    html = results.results_html(response([hit(score=-0.1), hit(score=-0.2)]))
    assert html.count("width:0%") == 2


def test_every_answer_has_a_tag_of_its_own() -> None:
    first, second = (Tags(results.results_html(response([hit()]))).found[0][0] for _ in range(2))
    assert first != second
    assert first.startswith("answer-")


def test_the_status_line_counts_times_and_names() -> None:
    line = "".join(results.status_html(response([hit()] * 3, total_indexed=12345)))
    assert "<b>3</b> of 12,345 pictures" in line
    assert "38 ms" in line
    assert "model builtin" in line
    assert (
        "of 1 picture<"
        in results.status_html(response([], total_indexed=1, timings_ms=None, model=None)) + "<"
    )
    assert "24 ms" in results.status_html(response([], timings_ms={"encode": 21.0, "retrieve": 3.0}))


def test_no_hits_are_told_in_words() -> None:
    assert results.NOTHING_FOUND[0] in results.results_html(response([]))
    assert results.NOTHING_INDEXED[0] in results.results_html(response([], total_indexed=0))
