"""Payloads and ids: the same fields and the same id for the same picture, whoever writes it."""

from __future__ import annotations

import json
import math
import uuid
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest

from search_core.payload import RESERVED, folder_and_name, image_payload, orientation_of, rfc3339
from search_core.points import FACET_FIELDS, INTEGER_FIELDS, KEYWORD_FIELDS, point_id


def payload(uri: str = "file:///photos/cats/tom.jpg", **fields):
    known = {
        "width": 640,
        "height": 480,
        "format": "jpeg",
        "size_bytes": 1234,
        "content_hash": "ab" * 32,
        "source_version": "1234:5678",
    }
    return image_payload(uri, **{**known, **fields})


def test_every_field_of_the_contract_is_there():
    full = payload(
        modified=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        captions=["one", "two"],
        extra={"licence": "CC0"},
    )
    assert full == {
        "uri": "file:///photos/cats/tom.jpg",
        "folder": "cats",
        "file_name": "tom.jpg",
        "format": "jpeg",
        "width": 640,
        "height": 480,
        "orientation": "landscape",
        "bytes": 1234,
        "modified": "2026-01-02T03:04:05.000006Z",
        "content_hash": "ab" * 32,
        "source_version": "1234:5678",
        "caption": "one",
        "captions": ["one", "two"],
        "licence": "CC0",
    }
    assert set(full) == RESERVED | {"licence"}


def test_what_is_unknown_is_absent():
    assert not {"modified", "caption", "captions"} & set(payload(captions=["", "  "]))


def test_indexed_fields_are_fields():
    assert set(KEYWORD_FIELDS + INTEGER_FIELDS) <= set(payload())
    assert set(FACET_FIELDS) <= set(KEYWORD_FIELDS)


def test_columns_cannot_overwrite_our_fields():
    full = payload(extra={"uri": "evil", "width": 1, "caption": "evil", "mine": 3})
    assert full["uri"] == "file:///photos/cats/tom.jpg"
    assert (full["width"], full["source_width"], full["source_uri"]) == (640, 1, "evil")
    assert "caption" not in full
    assert (full["source_caption"], full["mine"]) == ("evil", 3)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("text", "text"),
        (True, True),
        (0, 0),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (1.5, 1.5),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00.000000Z"),
        (date(2026, 1, 2), "2026-01-02"),
        ({"a": {"b": [1, None]}}, {"a": {"b": [1, None]}}),
        ((1, 2), [1, 2]),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.array([1, 2]), [1, 2]),
        ([math.nan], [None]),
        ("half a pair \ud83d", "half a pair ?"),
        ({"\udfff": ["\ud83d"]}, {"?": ["?"]}),
    ],
)
def test_columns_become_plain_json(value, kept):
    full = payload(extra={"column": value})
    assert full["column"] == kept
    assert json.loads(json.dumps(full, allow_nan=False)) == full
    json.dumps(full, ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("value", [None, math.nan, math.inf, b"bytes", object(), 1j])
def test_columns_that_are_no_json_are_left_out(value):
    assert "column" not in payload(extra={"column": value})


def test_captions_are_trimmed_and_can_be_encoded():
    full = payload(captions=["  one ", "", "two \ud800"])
    assert full["captions"] == ["one", "two ?"]


@pytest.mark.parametrize(("size", "name"), [((3, 2), "landscape"), ((2, 3), "portrait"), ((2, 2), "square")])
def test_orientation(size, name):
    assert orientation_of(*size) == name
    assert payload(width=size[0], height=size[1])["orientation"] == name


def test_moments_are_utc_and_sort_as_text():
    local = datetime(2026, 1, 2, 3, 0, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(local) == "2026-01-02T01:00:00.000000Z"
    assert rfc3339(datetime(2026, 1, 2, 1, 0)) == rfc3339(local)  # noqa: DTZ001 - a naive one is meant
    later = local + timedelta(microseconds=1)
    assert rfc3339(local) < rfc3339(later)
    assert len(rfc3339(local)) == len(rfc3339(later))


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("file:///photos/cats/tom%20cat.jpg", "cats", "tom cat.jpg"),
        ("file:///tom.jpg", "", "tom.jpg"),
        ("https://example.com/a/b%C3%A4r.png?size=3", "a", "bär.png"),
        ("https://example.com/b.png", "example.com", "b.png"),
        ("s3://bucket/a%20b/c.png", "a%20b", "c.png"),
        ("s3://bucket/c.png", "bucket", "c.png"),
        ("file:///data/train.tar#x/y.jpg", "train.tar", "y.jpg"),
        ("s3://bucket/train.tar#y.jpg", "train.tar", "y.jpg"),
        ("s3://bucket/a/take #2/c#1.png", "take #2", "c#1.png"),
        ("s3://bucket/issue#3/d.png", "issue#3", "d.png"),
        ("s3://bucket/x.tar/why?.png", "x.tar", "why?.png"),
        ("file:///photos/take%20%232/c%231.png", "take #2", "c#1.png"),
        ("https://example.com/a/b.png#top", "a", "b.png"),
        ("file:///a/part%231.tar#d/e%231.png", "part#1.tar", "e#1.png"),
        ("s3://bucket/t.parquet#0.12", "t.parquet", "0.12"),
    ],
)
def test_folder_and_file_name(uri, folder, name):
    assert folder_and_name(uri) == (folder, name)


def test_ids_depend_on_the_uri_alone():
    assert point_id("file:///a.jpg") == "c960087a-8617-5550-9c1f-7ccf3ba745e2"
    assert uuid.UUID(point_id("file:///a.jpg")).version == 5
    uris = [f"file:///{n}.jpg" for n in range(1000)]
    assert len({point_id(uri) for uri in uris}) == 1000
