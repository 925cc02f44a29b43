"""Errors travel between Ray's processes: each survives pickling, and the tree in the docstring is the real one."""

from __future__ import annotations

import inspect
import pickle

import pytest

from search_core import errors
from search_core.errors import ImageError, SearchError

CLASSES = [
    value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, SearchError)
]


def make(kind: type[SearchError]) -> SearchError:
    return kind("truncated", "one clear line") if issubclass(kind, ImageError) else kind("one clear line")


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_survives_pickling(kind):
    back = pickle.loads(pickle.dumps(make(kind)))
    assert type(back) is kind
    assert str(back) == "one clear line"
    assert vars(back) == vars(make(kind))


def test_an_image_error_keeps_its_reason():
    back = pickle.loads(pickle.dumps(ImageError("too_many_bytes", "9 MB")))
    assert (back.reason, back.message) == ("too_many_bytes", "9 MB")


def test_the_docstring_draws_the_real_tree():
    depth_of = {SearchError: 0}
    stack: list[type[SearchError]] = []
    for line in (errors.__doc__ or "").splitlines():
        words = line.lstrip(" │├└─").split()
        if not words or not words[0].endswith("Error"):
            continue
        kind = getattr(errors, words[0])
        indent = (len(line) - len(line.lstrip(" │├└─"))) // 4
        depth_of[kind] = indent
        del stack[indent - 1 :]
        assert indent == 1 or kind.__bases__ == (stack[-1],), kind
        stack.append(kind)
    assert set(depth_of) == set(CLASSES)
    assert len(CLASSES) >= 14
