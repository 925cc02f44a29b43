"""Importing a module does nothing: no heavy library, no environment read, no network, no file written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch",
    "ray",
    "gradio",
    "fastapi",
    "open_clip",
    "qdrant_client",
    "qdrant_edge",
    "pyarrow",
    "transformers",
)

PROBE = """
import importlib, json, os, sys
root = os.getcwd()
touched = []

def by_us():
    frame = sys._getframe(2)
    while frame and frame.f_code.co_filename in ("<frozen os>", "<frozen _collections_abc>"):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(root) and "/.venv/" not in frame.f_code.co_filename

class Watched(dict):
    def __getitem__(self, key):
        if by_us(): touched.append(f"environment {key}")
        return super().__getitem__(key)

def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo") or event == "socket.bind" and by_us():
        touched.append(event)
    if event in ("open", "subprocess.Popen", "os.mkdir") and by_us():
        touched.append(f"{event} {arguments[0]}")

os.environ._data = Watched(os.environ._data)
sys.addaudithook(hook)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps({"modules": sorted(sys.modules), "touched": touched}))
"""


def modules_of(package: str) -> list[str]:
    return sorted(
        f"{package}.{path.stem}" for path in (ROOT / package).glob("*.py") if path.stem != "__init__"
    )


def probe(*names: str) -> dict[str, list[str]]:
    """Imports the modules in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def heavy(found: dict[str, list[str]]) -> set[str]:
    return set(HEAVY) & {name.partition(".")[0] for name in found["modules"]}


def test_the_command_line_starts_without_any_heavy_library():
    assert heavy(probe("cli.main")) == set()


NEEDS = {  # the only modules that bring a heavy library along, and which
    "clip": {"torch"},
    "containers": {"pyarrow"},
    "edge": {"qdrant_edge"},
    "edge_config": {"qdrant_edge"},
    "edge_optimizer": {"qdrant_edge"},
    "object_store": {"pyarrow"},
    "edge_shards": {"qdrant_edge"},
    "own_ray": {"ray"},
    "owner": {"ray", "qdrant_edge"},
    "pictures": {"pyarrow"},
    "qdrant": {"qdrant_client"},
    "qdrant_config": {"qdrant_client"},
    "qdrant_nodes": {"qdrant_client"},
    "qdrant_points": {"qdrant_client"},
}


@pytest.mark.parametrize(
    "names", [[n for n in modules_of("search_core") if n.partition(".")[2] not in NEEDS]], ids=["light"]
)
def test_the_light_modules_of_the_core_stay_light(names):
    assert heavy(probe(*names)) == set()


@pytest.mark.parametrize("module", NEEDS)
def test_the_others_bring_along_what_they_are_for(module):
    found = heavy(probe(f"search_core.{module}"))
    assert NEEDS[module] <= found
    assert not found & {"gradio", "fastapi", "transformers", "open_clip"}
    if "ray" not in NEEDS[module]:
        assert "ray" not in found


def test_planning_an_index_run_needs_neither_ray_nor_torch():
    """A second run that finds nothing new must not pay for them."""
    assert not heavy(probe("cli.indexing", "batch_index.job", "batch_index.plan")) & {
        "ray",
        "torch",
        "gradio",
        "fastapi",
    }


def test_importing_reads_no_environment_and_opens_nothing():
    names = [name for package in ("search_core", "batch_index", "cli") for name in modules_of(package)]
    assert probe(*names)["touched"] == []


def test_the_probe_sees_what_it_looks_for(tmp_path):
    """Else the test above would pass for the wrong reason."""
    culprit = tmp_path / "culprit.py"
    culprit.write_text(
        "import os, socket\nos.environ.get('A')\nos.getenv('B')\n'C' in os.environ\nopen('x', 'w')\n"
        "socket.socket().bind(('127.0.0.1', 0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", PROBE, "culprit"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    touched = json.loads(done.stdout)["touched"]
    assert touched == ["environment b'A'", "environment b'B'", "environment b'C'", "open x", "socket.bind"]
