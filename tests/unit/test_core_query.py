"""The request model: everything that the contract answers with 4xx is refused here, and nothing else."""

from __future__ import annotations

import base64
import json

import pytest
from pydantic import ValidationError

from search_core.points import point_id
from search_core.query import SearchRequest

ID = point_id("file:///a.jpg")
PICTURE = base64.b64encode(b"bytes").decode()


def request(**fields) -> SearchRequest:
    """As it comes over HTTP: through JSON."""
    return SearchRequest.model_validate_json(json.dumps({"terms": [{"text": "a dog"}], **fields}))


@pytest.mark.parametrize(
    "term",
    [
        {"text": "a dog"},
        {"text": "a dog", "weight": -1},
        {"text": "x" * 2000, "weight": 1},
        {"text": " a dog ", "weight": 0.5},
        {"image_base64": PICTURE},
        {"image_url": "https://example.com/a.jpg"},
        {"image_id": ID},
        {"text": "a dog", "image_url": None, "image_id": None},
    ],
)
def test_each_kind_of_term_is_taken(term):
    parsed = request(terms=[term]).terms[0]
    assert {key: getattr(parsed, key) for key in term} == term


def test_defaults_are_the_contract():
    taken = request()
    assert (taken.limit, taken.offset, taken.min_score, taken.min_relevance) == (24, 0, None, None)
    assert (taken.collapse_duplicates, taken.explain, taken.collection, taken.filter) == (
        False,
        False,
        None,
        {},
    )
    assert taken.terms[0].weight == 1.0


def test_the_whole_contract_is_taken_from_the_start():
    taken = request(
        terms=[{"text": "a dog"}, {"image_id": ID, "weight": -0.5}],
        like=[ID],
        dislike=[ID],
        filter={"width": {"gte": 3}},
        limit=1000,
        offset=9000,
        min_score=0.2,
        min_relevance=0.5,
        collapse_duplicates=True,
        explain=True,
        collection="images",
    )
    assert taken.offset + taken.limit == 10_000


def test_likes_alone_are_a_query():
    assert SearchRequest(like=[ID]).terms == []


def test_an_id_is_written_in_one_way():
    assert request(like=[ID.upper()]).like == [ID]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"terms": []}, "at least one term"),
        ({"terms": [], "dislike": [ID]}, "at least one term"),
        ({"terms": None}, "terms"),
        ({"terms": [{}]}, "exactly one of"),
        ({"terms": [{"text": "a", "image_id": ID}]}, "exactly one of"),
        ({"terms": [{"image_base64": PICTURE, "image_url": "https://example.com"}]}, "exactly one of"),
        ({"terms": [{"text": ""}]}, "blank"),
        ({"terms": [{"text": " \t\n\u3000"}]}, "blank"),
        ({"terms": [{"text": "x" * 2001}]}, "2000"),
        ({"terms": [{"text": 3}]}, "text"),
        ({"terms": [{"text": "a", "weight": 1.01}]}, "weight"),
        ({"terms": [{"text": "a", "weight": -1.01}]}, "weight"),
        ({"terms": [{"text": "a", "weight": float("nan")}]}, "weight"),
        ({"terms": [{"text": "a", "weight": float("inf")}]}, "weight"),
        ({"terms": [{"text": "a", "weight": None}]}, "weight"),
        ({"terms": [{"text": "a", "weight": "heavy"}]}, "weight"),
        ({"terms": [{"text": "a", "weight": 0}]}, "other than 0"),
        ({"terms": [{"text": "a", "colour": "red"}]}, "colour"),
        ({"terms": [{"image_base64": "no base64!"}]}, "base64"),
        ({"terms": [{"image_base64": "äöü="}]}, "base64"),
        ({"terms": [{"image_id": "7"}]}, "no image id"),
        ({"terms": [{"image_url": "https://example.com/" + "x" * 4096}]}, "image_url"),
        ({"terms": [{"text": "a"}] * 33}, "terms"),
        ({"like": ["x"]}, "no image id"),
        ({"dislike": [""]}, "no image id"),
        ({"like": [ID] * 257}, "like"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": 2.5}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": 9001, "limit": 1000}, "10000"),
        ({"offset": 2**70}, "offset"),
        ({"min_score": float("nan")}, "finite"),
        ({"min_score": float("inf")}, "finite"),
        ({"min_relevance": float("-inf")}, "finite"),
        ({"filter": [1]}, "filter"),
        ({"filter": None}, "filter"),
        ({"collection": ""}, "collection"),
        ({"colection": "images"}, "colection"),
        ({"explain": "maybe"}, "explain"),
    ],
)
def test_what_the_contract_refuses_is_refused(fields, says):
    with pytest.raises(ValidationError, match=says):
        request(**fields)


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(ValidationError, match=r"text|unicode|surrogate|JSON"):
        SearchRequest.model_validate({"terms": [{"text": "\ud800"}]})


def test_a_request_cannot_be_changed_in_place():
    with pytest.raises(ValidationError, match="frozen"):
        request().limit = 3


def test_pictures_are_not_printed():
    assert PICTURE not in repr(request(terms=[{"image_base64": PICTURE}]))
