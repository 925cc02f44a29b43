"""Where Ray puts the stages of a run that asks for GPUs: real Ray, GPUs by name only, and the fake model.

`RAY_OVERRIDE_RESOURCES` tells the Ray that a command starts what its machine has.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batch_index.plan_file import SHARD_ROWS
from tests.fixtures.commands import PATIENCE_S, ROOT, Commands
from tests.fixtures.pictures import put, unique


def commands(folder: Path, *, gpus: int, **index: object) -> Commands:
    return Commands(
        folder,
        "--store",
        str(folder / "store"),
        RAY_OVERRIDE_RESOURCES=json.dumps({"CPU": 2, "GPU": gpus}),
        **{f"IMAGE_SEARCH_INDEX__{name.upper()}": str(value) for name, value in index.items()},
    )


def pictures(folder: Path, count: int) -> Path:
    for number in range(count):
        put(folder / "pictures", f"{number:04}.png", unique(number))
    return folder / "pictures"


def placed_run(on: Commands, encoders: int, source: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report of an index run, and the notes of its stages."""
    notes = on.folder / "notes"
    notes.mkdir()
    environment = {**on.environment, "PLACED_RUN_NOTES": str(notes), "PLACED_RUN_ENCODERS": str(encoders)}
    program = [sys.executable, "-m", "tests.fixtures.placed_run", "index", str(source), "--json"]
    done = subprocess.run(
        [*program, "--store", str(on.folder / "store")],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout), [json.loads(path.read_text()) for path in sorted(notes.iterdir())]


@pytest.mark.parametrize(
    ("gpus", "encoders", "share", "visible"),
    [
        (2, 2, 1, ["0", "1"]),
        pytest.param(1, 3, 0.33, ["0", "0", "0"], marks=pytest.mark.long),
    ],
)
def test_each_encoder_holds_its_gpu_and_reading_holds_none(
    tmp_path: Path, gpus: int, encoders: int, share: float, visible: list[str]
) -> None:
    count = (encoders - 1) * SHARD_ROWS + 1
    on = commands(tmp_path, gpus=gpus, encoders=encoders, gpus_per_encoder=share)
    report, notes = placed_run(on, encoders, pictures(tmp_path, count))
    assert (report["added"], report["embedded"], report["quarantined"]) == (count, count, 0)
    embedding = [note for note in notes if note["stage"] == "embed"]
    reading = [note for note in notes if note["stage"] == "prepare"]
    assert [note["claimed"] for note in embedding] == [{"CPU": 0.5, "GPU": share}] * encoders
    assert sorted(note["visible"] for note in embedding) == visible  # what torch will see
    assert len(reading) == encoders  # as many shards
    assert all(note["claimed"]["GPU"] == 0 and note["gpus"] == [] for note in reading), reading
    assert all(note["free"] < share for note in reading), "all are taken while pictures are read"
    assert not {note["pid"] for note in reading} & {note["pid"] for note in embedding}
    assert len(on.light("search", "red", "-k", "1000")) == count
    on.assert_nothing_left()


def test_a_gpu_where_there_is_none_is_refused_before_any_work(tmp_path: Path) -> None:
    on = commands(tmp_path, gpus=0, gpus_per_encoder=1)
    source = pictures(tmp_path, 1)
    out, errors = on.run("index", source, code=1)
    assert out == ""
    assert errors == (
        "image-search: index.encoders 1 with index.gpus_per_encoder 1 need 1 GPUs; Ray has 0 here, "
        "room for 0 encoders: lower one of them\n"
    )
    assert on.light("collections", "list") == []
    assert on.light("index", source, "--dry-run")["added"] == 1  # to say what would be done needs no GPU
    on.assert_nothing_left()


def test_more_encoders_than_there_is_work_for_are_not_started(tmp_path: Path) -> None:
    on = commands(tmp_path, gpus=0, encoders=3)
    assert on.json("index", pictures(tmp_path, 3))["added"] == 3  # and Ray has nothing to warn of
