"""The sample corpus is complete, readable, small enough, and every picture has a licence."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
FIELDS = {"image", "captions", "name", "category", "license", "source"}


@pytest.fixture(scope="module")
def entries() -> list[dict[str, Any]]:
    lines = (SAMPLES / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_every_picture_has_exactly_one_line(entries: list[dict[str, Any]]) -> None:
    files = [path for path in SAMPLES.glob("images/**/*") if path.is_file()]
    pictures = [path.relative_to(SAMPLES).as_posix() for path in files]
    assert sorted(entry["image"] for entry in entries) == sorted(pictures)
    assert len(pictures) >= 300


def test_every_picture_decodes(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        with Image.open(SAMPLES / entry["image"]) as image:
            image.load()
            assert 100 <= max(image.size) <= 512, entry["image"]


def test_the_lines_are_complete(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        assert set(entry) == FIELDS
        assert entry["image"].startswith(f"images/{entry['category']}/")
        assert entry["captions"]
        assert all(text == text.strip() and text.endswith(".") for text in entry["captions"]), entry
        assert entry["name"] is None or entry["name"] == entry["name"].strip().lower() != ""
    assert max(Counter(entry["source"] for entry in entries).values()) == 1


def test_there_are_enough_object_names(entries: list[dict[str, Any]]) -> None:
    assert len({entry["name"] for entry in entries} - {None}) >= 200


def test_every_licence_and_every_attribution_is_there(entries: list[dict[str, Any]]) -> None:
    notice = (SAMPLES / "NOTICE").read_text(encoding="utf-8")
    for entry in entries:
        assert (SAMPLES / "LICENSES" / f"{entry['license']}.txt").stat().st_size > 0
        assert entry["source"].split(": ")[0].split("/")[0].split(" ")[0] in notice
        if entry["license"] != "GPL-2.0-or-later":  # the package's own notice covers those
            assert entry["image"] in notice


def test_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) <= 25_000_000
