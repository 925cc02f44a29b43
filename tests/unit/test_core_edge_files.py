"""The embedded store's own files: atomic, durable, and never half read."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from search_core.edge_files import EdgeFiles, Holder, read_json, write_json
from search_core.errors import NotFoundError, StoreError


def publish_often(root: Path, alias: str, count: int) -> None:
    for number in range(count):
        EdgeFiles(root).set_alias(alias, f"{alias}__f__{number}")


def test_metadata_is_kept(tmp_path):
    files = EdgeFiles(tmp_path / "store")
    assert files.names() == []
    assert files.aliases() == {}
    files.write_metadata("images__f__2", {"count": 3})
    files.write_metadata("images__f__1", {"ä": [1, None]})
    assert files.exists("images__f__1")
    assert files.metadata("images__f__1") == {"ä": [1, None]}
    assert files.names() == ["images__f__1", "images__f__2"]


def test_collections_are_in_order_of_their_time_whatever_their_alias_and_model(tmp_path):
    files = EdgeFiles(tmp_path)
    for name in ("b__x__1", "a__z__2", "c__a__3"):
        files.write_metadata(name, {})
    assert files.names() == ["b__x__1", "a__z__2", "c__a__3"]


def test_a_collection_without_metadata_was_never_made(tmp_path):
    files = EdgeFiles(tmp_path)
    files.shard("images__f__1", 1).mkdir(parents=True)
    assert files.names() == []
    assert not files.exists("images__f__1")
    with pytest.raises(NotFoundError, match="no collection 'images__f__1'"):
        files.metadata("images__f__1")


def test_clearing_removes_everything_of_one_collection_only(tmp_path):
    files = EdgeFiles(tmp_path)
    for name in ("a__f__1", "b__f__2"):
        files.write_metadata(name, {})
        files.shard(name, 1).mkdir(parents=True)
    files.clear("a__f__1")
    files.clear("never__f__0")
    assert files.names() == ["b__f__2"]
    assert [path.name for path in (tmp_path / "collections").iterdir()] == ["b__f__2"]


def test_sweeping_keeps_the_current_generation(tmp_path):
    files = EdgeFiles(tmp_path)
    files.write_metadata("a__f__1", {})
    for generation in (1, 2, 3):
        files.shard("a__f__1", generation).mkdir()
    files.sweep("a__f__1", 2)
    assert sorted(path.name for path in (tmp_path / "collections" / "a__f__1").iterdir()) == [
        "collection.json",
        "shard-0002",
    ]


def test_a_write_that_fails_leaves_the_old_text(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": 1, "not json": object()})
    assert read_json(path) == {"old": 1}


def test_the_text_is_on_disk_before_it_takes_the_old_ones_place(tmp_path, monkeypatch):
    """What a power cut at any moment would leave: the old text, or the whole new one."""
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    seen = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        temporary = Path(f"/proc/self/fd/{descriptor}").readlink()
        if temporary.is_file():
            seen.append((json.loads(temporary.read_text()), read_json(path)))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write_json(path, {"new": 2})
    assert seen == [({"new": 2}, {"old": 1})]
    assert read_json(path) == {"new": 2}
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '"text"'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(StoreError, match=r"a\.json (cannot be read|is damaged)") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_aliases_moved_by_many_processes_at_once_are_all_kept(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=publish_often, args=(tmp_path, name, 20)) for name in ("a", "b", "c")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert EdgeFiles(tmp_path).aliases() == {name: f"{name}__f__19" for name in ("a", "b", "c")}


def test_the_holder_is_named(tmp_path):
    files = EdgeFiles(tmp_path)
    assert files.holder("a__f__1") == "another process"
    files.write_metadata("a__f__1", {})
    files.sign("a__f__1")
    assert files.holder("a__f__1").startswith(f"process {os.getpid()} (")
    EdgeFiles(tmp_path, Holder(7, "image-search index")).sign("a__f__1")  # as an actor does for its driver
    assert files.holder("a__f__1") == "process 7 (image-search index)"
    (tmp_path / "collections" / "a__f__1" / "holder.json").write_text("{")
    assert files.holder("a__f__1") == "another process"
