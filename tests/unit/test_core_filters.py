"""Filters as the API takes them: what is understood, and what is refused before a store sees it."""

from __future__ import annotations

import math

import pytest

from search_core.errors import QueryError
from search_core.filters import AnyOf, Between, parse_filter


@pytest.mark.parametrize(
    ("raw", "parsed"),
    [
        (None, ()),
        ({}, ()),
        ({"folder": "cats"}, (AnyOf("folder", ("cats",)),)),
        ({"width": 640}, (AnyOf("width", (640,)),)),
        ({"checked": True}, (AnyOf("checked", (True,)),)),
        ({"format": ["jpeg", "png"]}, (AnyOf("format", ("jpeg", "png")),)),
        ({"width": {"gte": 640, "lt": 2000.5}}, (Between("width", (("gte", 640.0), ("lt", 2001.0))),)),
        ({"ratio": {"gte": 0.5, "lt": 2000.5}}, (Between("ratio", (("gte", 0.5), ("lt", 2000.5))),)),
        (
            {"height": {"gt": -1.5, "lte": 2.5}, "bytes": {"gte": 1.1}},  # whole numbers have whole bounds
            (Between("height", (("gt", -2.0), ("lte", 2.0))), Between("bytes", (("gte", 2.0),))),
        ),
        (
            {"width": {"gt": 1}, "height": {"lte": -2}},
            (Between("width", (("gt", 1.0),)), Between("height", (("lte", -2.0),))),
        ),
        ({"bytes": 2**63 - 1}, (AnyOf("bytes", (2**63 - 1,)),)),
    ],
)
def test_a_filter_is_parsed(raw, parsed):
    assert parse_filter(raw) == parsed
    assert all(type(v) is float for c in parse_filter(raw) if isinstance(c, Between) for _, v in c.bounds)


@pytest.mark.parametrize(
    "value",
    [
        None,
        1.5,
        [],
        {},
        [1.5],
        [None],
        [["a"]],
        [True, False],
        ["a", 1],
        {"from": 1},
        {"gte": "640"},
        {"gte": None},
        {"gte": True},
        {"gte": 1, "other": 2},
        {"gte": math.nan},
        {"lt": math.inf},
        {"lt": 10**400},
        2**63,
        [1, -(2**63) - 1],
    ],
)
def test_what_cannot_be_matched_is_refused_in_one_line(value):
    with pytest.raises(
        QueryError, match="filter 'width': give a value, a list of texts or of whole numbers, or bounds"
    ) as caught:
        parse_filter({"width": value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("width", "width"),
        ("exif.lens-make_2", "exif.lens-make_2"),
        ("camera model", '"camera model"'),
        ("exif:iso", '"exif:iso"'),
        ("größe", '"größe"'),
        ("a[0]", '"a[0]"'),
        (".a", '".a"'),
    ],
)
def test_fields_with_odd_names_are_quoted_for_the_store(field, path):
    assert parse_filter({field: 1}) == (AnyOf(path, (1,)),)


@pytest.mark.parametrize("field", ["", 'a"b', "a\nb", "\0", "half \ud800", "x" * 5000])
def test_what_is_no_name_of_a_field_is_refused(field):
    with pytest.raises(QueryError, match="no name of a field") as caught:
        parse_filter({field: 1})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "raw", [{str(n): 1 for n in range(33)}, {"a": ["half \ud800"]}, {"a": "x" * 5000}, {"a": [1] * 1001}]
)
def test_filters_without_measure_are_refused(raw):
    with pytest.raises(QueryError, match="filter"):
        parse_filter(raw)
