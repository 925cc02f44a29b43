"""Retrieval quality: recall at k, median rank, and how near ANN comes to exact search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from search_core.errors import UsageError

Ranks = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """An image, by URI or file name, and the captions that describe it."""

    image: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Recall:
    """Shares (0 to 1) of queries whose right answer is among the first k, and the median rank (from 1)."""

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    median_rank: float

    def to_dict(self) -> dict[str, float]:
        """As plain values, for JSON."""
        return asdict(self)


def read_pairs(path: Path) -> list[Pair]:
    """Pairs from JSON lines `{"image": ..., "captions": [...]}`; other fields are ignored.

    Raises:
        UsageError: the file cannot be read, is empty, or a line is not of that form.
    """
    return [_pair(path, number, line) for number, line in numbered_lines(path)]


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a file that are not blank, and their numbers from 1.

    Raises:
        UsageError: the file cannot be read, or has none.
    """
    try:
        lines = path.read_text(encoding="utf-8").split(
            "\n"
        )  # not splitlines: values may hold other line ends
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise UsageError(f"{path} has no lines")
    return numbered


def _pair(path: Path, number: int, line: str) -> Pair:
    try:
        value: Any = json.loads(line)
        image, captions = value["image"], value["captions"]
    except (ValueError, TypeError, KeyError):
        raise UsageError(f'{path}, line {number}: needs {{"image": ..., "captions": [...]}}') from None
    if (
        not isinstance(image, str)
        or not isinstance(captions, list)
        or not all(isinstance(c, str) for c in captions)
    ):
        raise UsageError(f"{path}, line {number}: image is a string, captions a list of strings")
    return Pair(image, tuple(caption for caption in captions if caption.strip()))


def recall(ranks: Sequence[int] | Ranks) -> Recall:
    """Recall of queries whose right answer has these ranks, from 1."""
    values = np.asarray(ranks, dtype=np.int64)
    first, five, ten = (float((values <= k).mean()) for k in (1, 5, 10))
    return Recall(first, five, ten, float(np.median(values)))


def rank_of_best(scores: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]) -> Ranks:
    """For each row of scores [n, m], the rank (from 1) of its best right column; ties count against it.

    `right` is [n, m]; each row has at least one True.
    """
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    ahead: Ranks = ((scores >= best) & ~right).sum(axis=1) + 1
    return ahead
