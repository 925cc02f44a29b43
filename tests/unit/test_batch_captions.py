"""Captions and columns beside pictures: which line belongs to which file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from batch_index.captions import Captions, Description
from batch_index.sources import SourceItem, open_source
from search_core.addresses import local_path
from search_core.errors import UsageError
from search_core.settings import SourceSettings
from tests.fixtures.pictures import plain, put

PNG = plain("red")


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        put(root, name, PNG)
    return root


def lines(path: Path, *values: object) -> Path:
    path.write_text(
        "\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n", encoding="utf-8"
    )
    return path


def of(*given: str | Path, named: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Captions of each file, by its path below the working folder."""
    sources = [open_source(str(one), SourceSettings()) for one in given]
    captions = Captions(sources, named)
    return {
        str(local_path(file.uri).relative_to(Path.cwd())): captions.of(file).captions
        for source in sources
        for file in source.items()
    }


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_without_any_sidecar_there_are_none():
    pictures(Path("p"), "a.png")
    assert of("p") == {"p/a.png": ()}


def test_a_line_names_a_file_by_its_path_below_the_folder():
    pictures(Path("p"), "a.png", "sub/a.png", "sub/b.png")
    lines(
        Path("p/captions.jsonl"),
        {"image": "a.png", "captions": ["top"]},
        {"image": "sub/a.png", "captions": ["below", "twice"]},
    )
    assert of("p") == {"p/a.png": ("top",), "p/sub/a.png": ("below", "twice"), "p/sub/b.png": ()}


def test_a_line_may_name_a_file_by_its_name_alone():
    pictures(Path("p"), "sub/b.png")
    lines(Path("p/captions.jsonl"), {"image": "b.png", "captions": "just one"})
    assert of("p") == {"p/sub/b.png": ("just one",)}


def test_each_folder_has_lines_of_its_own():
    """Two sources may have a file of the same name, with different captions."""
    for folder, text in (("p", "a cat"), ("q", "a dog")):
        pictures(Path(folder), "a.png", "sub/b.png")
        lines(
            Path(folder, "captions.jsonl"),
            {"image": "a.png", "captions": [text]},
            {"image": "b.png", "captions": [f"{text} below"]},
        )
    assert of("p", "q") == {
        "p/a.png": ("a cat",),
        "p/sub/b.png": ("a cat below",),
        "q/a.png": ("a dog",),
        "q/sub/b.png": ("a dog below",),
    }


def test_a_folder_without_lines_takes_none_from_another():
    pictures(Path("p"), "a.png")
    pictures(Path("q"), "a.png")
    lines(Path("p/captions.jsonl"), {"image": "a.png", "captions": ["a cat"]})
    assert of("p", "q") == {"p/a.png": ("a cat",), "q/a.png": ()}


def test_a_single_file_or_a_glob_finds_the_lines_beside_it():
    pictures(Path("p"), "a.png", "b.png")
    lines(
        Path("p/captions.jsonl"), {"image": "a.png", "captions": ["a"]}, {"image": "b.png", "captions": ["b"]}
    )
    assert of("p/a.png") == {"p/a.png": ("a",)}
    assert of("p/*.png") == {"p/a.png": ("a",), "p/b.png": ("b",)}


def test_a_named_file_counts_for_all_sources_and_alone():
    pictures(Path("p"), "a.png", "c.png")
    pictures(Path("q"), "b.png")
    lines(Path("p/captions.jsonl"), {"image": "c.png", "captions": ["not this"]})
    named = lines(
        Path("all.jsonl"), {"image": "p/a.png", "captions": ["a"]}, {"image": "b.png", "captions": ["b"]}
    )
    assert of("p", "q", named=named) == {"p/a.png": ("a",), "p/c.png": (), "q/b.png": ("b",)}


def test_a_text_file_of_the_same_name_has_a_caption_a_line():
    pictures(Path("p"), "a.png", "b.png")
    Path("p/a.txt").write_text("one\n\n  two  \n")
    Path("p/b.txt").write_text("not this")
    lines(Path("p/captions.jsonl"), {"image": "b.png", "captions": ["this"]})
    assert of("p") == {"p/a.png": ("one", "two"), "p/b.png": ("this",)}


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"x" * 70_000])
def test_a_text_file_that_is_no_caption_is_passed_over(content):
    pictures(Path("p"), "a.png")
    Path("p/a.txt").write_bytes(content)
    assert of("p") == {"p/a.png": ()}


@pytest.mark.timeout(60)
def test_a_pipe_beside_a_picture_is_not_waited_for():
    pictures(Path("p"), "a.png")
    os.mkfifo("p/a.txt")
    assert of("p") == {"p/a.png": ()}


def test_other_fields_come_along_as_columns():
    pictures(Path("p"), "a.png")
    lines(
        Path("p/captions.jsonl"),
        {"image": "a.png", "captions": [], "licence": "CC0", "tags": ["x", {"y": 1}]},
    )
    source = open_source("p", SourceSettings())
    (file,) = source.items()
    assert Captions([source], None).of(file) == Description((), {"licence": "CC0", "tags": ["x", {"y": 1}]})


def test_captions_may_be_left_out():
    pictures(Path("p"), "a.png")
    lines(Path("p/captions.jsonl"), {"image": "a.png", "licence": "CC0"})
    assert of("p") == {"p/a.png": ()}


def test_line_ends_inside_captions_are_not_line_ends_of_the_file():
    pictures(Path("p"), "a.png")
    text = "one\u2028two\u0085three"
    lines(Path("p/captions.jsonl"), {"image": "a.png", "captions": [text]})
    assert of("p") == {"p/a.png": (text,)}


def test_a_byte_order_mark_and_windows_line_ends_are_no_trouble():
    pictures(Path("p"), "a.png", "b.png")
    Path("p/captions.jsonl").write_bytes(
        b'\xef\xbb\xbf{"image": "a.png", "captions": ["a"]}\r\n{"image": "b.png", "captions": ["b"]}\r\n'
    )
    assert of("p") == {"p/a.png": ("a",), "p/b.png": ("b",)}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("no json", r'line 2: needs \{"image"'),
        ("[1]", "line 2: needs"),
        ("3", "line 2: needs"),
        ('{"captions": ["a"]}', "line 2: needs"),
        ('{"image": 3}', "line 2: image is a string"),
        ('{"image": "a.png", "captions": 3}', "line 2: image is a string, captions a list of strings"),
        ('{"image": "a.png", "captions": [3]}', "line 2: image is a string, captions a list of strings"),
        ('{"image": "a.png", "captions": null}', "line 2: image is a string, captions a list of strings"),
    ],
)
def test_a_wrong_line_is_named(line, says):
    pictures(Path("p"), "a.png")
    Path("p/captions.jsonl").write_text('{"image": "b.png"}\n' + line)
    with pytest.raises(UsageError, match=says) as caught:
        of("p")
    assert "\n" not in str(caught.value)


def test_a_named_file_that_is_missing_or_no_text_is_an_error():
    pictures(Path("p"), "a.png")
    Path("binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"captions file none\.jsonl does not exist"):
        of("p", named=Path("none.jsonl"))
    with pytest.raises(UsageError, match="captions file binary cannot be read"):
        of("p", named=Path("binary"))


def test_an_object_whose_key_has_a_hash_is_found_by_its_file_name(tmp_path):
    named = lines(tmp_path / "c.jsonl", {"image": "take#2.png", "captions": ["second"]})
    found = Captions([], named).of(SourceItem("s3://bucket/cats/take#2.png", "", 0, None))
    assert found.captions == ("second",)
    inside = Captions([], named).of(SourceItem("s3://bucket/t.tar#cats/take#2.png", "", 0, None))
    assert inside.captions == ("second",)
