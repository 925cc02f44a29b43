"""Seven thousand real photos with the built-in model: indexed, indexed again for nothing, and found by their captions."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.commands import Commands

pytestmark = pytest.mark.timeout(3600)
ROOT = Path(__file__).resolve().parents[2]
PHOTOS = 7_000
LEAST_RECALL_AT_10 = 0.65


@pytest.fixture(scope="module")
def data() -> Path:
    folder = Path(os.environ.get("IMAGE_SEARCH_TEST_DATA") or ROOT.parent / "shared" / "data") / "flickr8k"
    assert folder.is_dir(), f"no {folder}: name the folder of the data in IMAGE_SEARCH_TEST_DATA"
    return folder


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    folder = tmp_path_factory.mktemp("flickr8k")
    return Commands(folder, "--store", str(folder / "store"), IMAGE_SEARCH_MODEL__NAME="builtin")


@pytest.fixture(scope="module")
def indexed(data: Path, commands: Commands) -> dict[str, Any]:
    """The report of the first run, with the captions of the training photos."""
    with commands.start("index", data / "images", "--captions", data / "train.jsonl", "--json") as process:
        out, errors = process.communicate()
    assert process.returncode == 0, errors
    report = json.loads(out)
    assert isinstance(report, dict)
    return report


def test_every_photo_is_indexed(indexed, commands):
    assert {key: indexed[key] for key in ("seen", "added", "quarantined", "unchanged")} == {
        "seen": PHOTOS,
        "added": PHOTOS,
        "quarantined": 0,
        "unchanged": 0,
    }
    assert indexed["model"] == "builtin"
    (row,) = commands.light("status")["collections"]
    assert (row["count"], row["state"], row["quarantine"]) == (PHOTOS, "ready", [])


def test_a_second_run_embeds_nothing(indexed, commands, data):
    report = commands.light("index", data / "images", "--captions", data / "train.jsonl")
    assert (report["unchanged"], report["embedded"], report["added"], report["updated"]) == (PHOTOS, 0, 0, 0)


def test_photos_are_found_by_their_captions(indexed, commands, data):
    figures = commands.json("eval", data / "dev.jsonl")
    assert figures["images"] == 1000
    assert figures["captions"] == 5000
    assert figures["text_to_image"]["recall_at_10"] >= LEAST_RECALL_AT_10, figures
    for direction in ("text_to_image", "image_to_text"):
        shares = [figures[direction][f"recall_at_{k}"] for k in (1, 5, 10)]
        assert 0 < shares[0] < shares[1] < shares[2] < 1
        assert figures[direction]["median_rank"] <= 10
    assert figures["ann_recall_at_10"] >= 0.95


def test_two_files_of_one_photo_are_each_others_nearest(indexed, commands, data):
    """They differ in their encoding alone."""
    pair = ("2851198725_37b6027625.jpg", "3050606344_af711c726c.jpg")
    hits = commands.json("search", "--image", data / "images" / pair[0], "-k", "2")
    assert {Path(hit["uri"]).name for hit in hits} == set(pair)
    assert hits[1]["score"] > 0.99
