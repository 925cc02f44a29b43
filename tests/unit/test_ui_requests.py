"""From the page's fields to a search request."""

from __future__ import annotations

import base64

import pytest

from serve_app.ui.requests import WITHOUT_WEIGHT, Form, Similar, search_request

CAT = Similar("7", "a cat")


def test_words_alone_are_one_unweighted_term() -> None:
    request = search_request(Form(text="  a dog "), 40)
    assert request == {"terms": [{"text": "a dog"}], "limit": 24, "offset": 0}


def test_a_picture_goes_out_as_the_bytes_that_were_uploaded() -> None:
    request = search_request(Form(picture=b"\xff\xd8raw"), 40)
    assert request is not None
    assert base64.b64decode(request["terms"][0]["image_base64"]) == b"\xff\xd8raw"
    assert "weight" not in request["terms"][0]


@pytest.mark.parametrize(
    ("slider", "words", "picture"), [(0.5, 0.5, 0.5), (0.8, 0.2, 0.8), (0.25, 0.75, 0.25)]
)
def test_words_and_picture_share_the_weight(slider: float, words: float, picture: float) -> None:
    request = search_request(Form(text="snow", picture=b"x", weight=slider), 40)
    assert request is not None
    assert [term["weight"] for term in request["terms"]] == [words, picture]


@pytest.mark.parametrize(
    ("slider", "kind"), [(0.0, "text"), (1.0, "image_base64"), (-3.0, "text"), (9.0, "image_base64")]
)
def test_the_ends_of_the_slider_leave_one_term(slider: float, kind: str) -> None:
    request = search_request(Form(text="snow", picture=b"x", weight=slider), 40)
    assert request is not None
    assert [term["weight"] for term in request["terms"]] == [1.0]
    assert kind in request["terms"][0]


def test_more_like_this_asks_by_id_and_combines_with_words() -> None:
    assert search_request(Form(similar=CAT), 40) == {"terms": [{"image_id": "7"}], "limit": 24, "offset": 0}
    request = search_request(Form(text="at night", similar=CAT), 40)
    assert request is not None
    assert request["terms"] == [{"text": "at night", "weight": 0.5}, {"image_id": "7", "weight": 0.5}]


def test_an_uploaded_picture_goes_before_a_similar_one() -> None:
    request = search_request(Form(picture=b"x", similar=CAT), 40)
    assert request is not None
    assert list(request["terms"][0]) == ["image_base64"]


def test_without_pushes_away_but_asks_for_nothing_by_itself() -> None:
    request = search_request(Form(text="beach", without=" people "), 40)
    assert request is not None
    assert request["terms"][1] == {"text": "people", "weight": WITHOUT_WEIGHT}
    assert search_request(Form(without="people"), 40) is None


@pytest.mark.parametrize("form", [Form(), Form(text=" \n"), Form(picture=b"")])
def test_nothing_asked_is_no_request(form: Form) -> None:
    assert search_request(form, 40) is None


@pytest.mark.parametrize(("asked", "sent"), [(1, 1), (40, 40), (0, 1), (-5, 1), (400, 40)])
def test_the_number_of_results_stays_in_its_range(asked: int, sent: int) -> None:
    request = search_request(Form(text="x", limit=asked), 40)
    assert request is not None
    assert request["limit"] == sent


@pytest.mark.parametrize("data", [None, [], "7", {}, {"id": ""}, {"id": 7}, {"id": None, "name": "x"}])
def test_a_click_that_names_no_picture_is_none(data: object) -> None:
    assert Similar.from_event(data) is None


def test_a_click_names_a_picture() -> None:
    assert Similar.from_event({"id": " 7 ", "name": "a cat"}) == CAT
    assert Similar.from_event({"id": "7"}) == Similar("7", "7")
    similar = Similar.from_event({"id": "7", "name": "x" * 9000})
    assert similar is not None
    assert len(similar.name) == 200
