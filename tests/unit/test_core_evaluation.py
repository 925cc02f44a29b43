"""Retrieval figures: recall, median rank, ties, and the file that pairs pictures with captions."""

from __future__ import annotations

import json

import numpy as np
import pytest

from search_core.errors import UsageError
from search_core.evaluation import Pair, rank_of_best, read_pairs, recall


def test_recall_counts_the_shares_within_the_first_k():
    figures = recall([1, 1, 2, 5, 6, 10, 11, 300])
    assert figures.to_dict() == {
        "recall_at_1": 2 / 8,
        "recall_at_5": 4 / 8,
        "recall_at_10": 6 / 8,
        "median_rank": 5.5,
    }


def test_recall_of_perfect_and_of_hopeless_ranks():
    assert recall([1, 1, 1]).recall_at_1 == 1
    assert recall(np.array([11, 12])).to_dict() == {
        "recall_at_1": 0,
        "recall_at_5": 0,
        "recall_at_10": 0,
        "median_rank": 11.5,
    }


def test_the_rank_is_that_of_the_best_right_answer():
    scores = np.array([[0.9, 0.5, 0.7, 0.1], [0.1, 0.2, 0.3, 0.4]], np.float32)
    right = np.array([[False, True, True, False], [True, False, False, False]])
    assert rank_of_best(scores, right).tolist() == [2, 4]


def test_ties_count_against_the_right_answer():
    scores = np.full((1, 5), 0.25, np.float32)
    right = np.array([[False, False, True, False, False]])
    assert rank_of_best(scores, right).tolist() == [5]


def test_ties_among_right_answers_do_not_count():
    scores = np.array([[0.5, 0.5, 0.5, 0.1]], np.float32)
    right = np.array([[True, True, True, False]])
    assert rank_of_best(scores, right).tolist() == [1]


def test_pairs_are_read(tmp_path):
    path = tmp_path / "pairs.jsonl"
    lines = [
        {"image": "a.jpg", "captions": ["one", "two"], "other": 3},
        {"image": "file:///b.jpg", "captions": ["line\u2028separator", " "]},
    ]
    path.write_text(
        "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n\n", encoding="utf-8"
    )
    assert read_pairs(path) == [
        Pair("a.jpg", ("one", "two")),
        Pair("file:///b.jpg", ("line\u2028separator",)),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("no json", r'line 2: needs \{"image"'),
        ("[1]", r"line 2: needs"),
        ('"text"', r"line 2: needs"),
        ('{"image": "a"}', r"line 2: needs"),
        ('{"image": 3, "captions": []}', r"line 2: image is a string"),
        ('{"image": "a", "captions": "one"}', r"line 2: image is a string"),
        ('{"image": "a", "captions": [1]}', r"line 2: image is a string"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, says):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"image": "a", "captions": ["b"]}\n' + line)
    with pytest.raises(UsageError, match=says) as caught:
        read_pairs(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_empty_missing_or_no_text_is_named(tmp_path):
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n \n")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, says in (
        (empty, "has no lines"),
        (binary, "cannot be read"),
        (tmp_path / "none", "cannot be read"),
    ):
        with pytest.raises(UsageError, match=says):
            read_pairs(path)
