"""What there is to index: folders, files and globs, and nothing that is no picture."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from batch_index.plan import list_items
from batch_index.plan_file import PlanFile
from batch_index.sources import Source, SourceItem, open_source
from search_core.errors import SourceError
from search_core.pictures import file_uri, local_path
from search_core.settings import Settings, SourceSettings, StoreSettings
from tests.fixtures.pictures import plain, put

PNG = plain("red")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    for name in (
        "b.jpg",
        "a.PNG",
        "sub/c.webp",
        "sub/deep/d.gif",
        "notes.txt",
        "noending",
        ".hidden.png",
        ".cache/e.png",
    ):
        put(root, name, PNG)
    return root


def opened(given: str) -> Source:
    return open_source(given, SourceSettings())


def name_of(item: SourceItem) -> str:
    return Path(local_path(item.uri) or "").name


def names(*given: str | Path) -> list[str]:
    """As a run lists them: each once, and an error if there is none."""
    with TemporaryDirectory() as folder:
        plan = PlanFile(Path(folder) / "plan.db")
        try:
            return [name_of(item) for item in list_items([opened(str(one)) for one in given], plan)]
        finally:
            plan.close()


def test_a_folder_gives_its_pictures_at_any_depth(folder):
    assert names(folder) == ["a.PNG", "b.jpg", "c.webp", "d.gif"]


def test_a_file_is_what_is_known_of_it_without_reading(folder):
    os.utime(folder / "b.jpg", ns=(0, 1_700_000_000_123_456_789))
    file = next(file for file in opened(str(folder)).items() if name_of(file) == "b.jpg")
    assert file.uri == file_uri(folder / "b.jpg")
    assert (file.size, file.version) == (len(PNG), f"{len(PNG)}:1700000000123456789")
    assert file.modified.isoformat() == "2023-11-14T22:13:20.123457+00:00"


def test_a_single_file_is_taken_whatever_its_ending(folder):
    assert names(folder / "noending") == ["noending"]
    assert names(folder / ".hidden.png") == [".hidden.png"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jpg", ["b.jpg"]),
        ("*", ["a.PNG", "b.jpg"]),
        ("*/*", ["c.webp"]),
        ("**/*.*", ["a.PNG", "b.jpg", "c.webp", "d.gif"]),
        ("sub/**", ["c.webp", "d.gif"]),
        ("[ab].*", ["a.PNG", "b.jpg"]),
        ("?.jpg", ["b.jpg"]),
    ],
)
def test_a_glob_gives_what_matches_and_is_a_picture(folder, pattern, found):
    assert names(folder / pattern) == found


def test_a_glob_may_be_relative(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (file,) = opened("*.jpg").items()
    assert file.uri == file_uri(folder / "b.jpg")


def test_a_folder_whose_name_looks_like_a_glob_is_a_folder(tmp_path):
    put(tmp_path, "holiday [2024]/a.png", PNG)
    assert names(tmp_path / "holiday [2024]") == ["a.png"]


def test_overlapping_sources_give_each_file_once(folder):
    assert names(folder / "sub", folder, folder / "*.jpg") == ["c.webp", "d.gif", "a.PNG", "b.jpg"]


def test_links_are_followed_to_files_but_not_into_folders(folder, tmp_path):
    put(tmp_path, "elsewhere/e.png", PNG)
    (folder / "z.png").symlink_to(tmp_path / "elsewhere" / "e.png")
    (folder / "other").symlink_to(tmp_path / "elsewhere")
    assert names(folder) == ["a.PNG", "b.jpg", "z.png", "c.webp", "d.gif"]


def test_loops_and_broken_links_end(folder):
    (folder / "loop").symlink_to(folder)
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    assert names(folder) == ["a.PNG", "b.jpg", "c.webp", "d.gif"]
    assert names(folder / "**" / "*.jpg") == ["b.jpg"] * len(names(folder / "**" / "*.jpg"))


def test_folders_and_pipes_with_picture_names_are_left_out(folder):
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    assert names(folder) == ["a.PNG", "b.jpg", "c.webp", "d.gif"]


def test_names_that_are_no_text_are_listed(tmp_path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(odd)).write_bytes(PNG)
    (file,) = opened(str(tmp_path)).items()
    file.uri.encode("ascii")
    assert os.fsencode(local_path(file.uri) or "") == odd


def test_folders_of_the_store_are_not_listed(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for name in ("store/media/m.jpg", "store/thumbnails/ab/t.jpg", "store/quarantine/q.parquet"):
        put(folder, name, PNG)
    apart = Settings(store=StoreSettings(path=Path("store"))).own_folders

    def listed(given: str) -> list[str]:
        return [name_of(item) for item in open_source(given, SourceSettings(), apart).items()]

    assert listed(".") == listed(str(folder)) == ["a.PNG", "b.jpg", "c.webp", "d.gif"]
    assert listed("**/*.jpg") == listed("*.jpg") == ["b.jpg"]
    assert listed("store*/*/*.jpg") == []
    put(folder, "store/mine/o.jpg", PNG)
    assert listed("store") == listed("store/*/*.jpg") == ["o.jpg"]
    for given in ("store/media", "store/thumbnails/ab/*.jpg", "store/media/m.jpg", "store/thumbnails/ab"):
        with pytest.raises(SourceError, match="a folder of the store's own"):
            listed(given)


def test_a_table_of_the_store_is_not_taken_for_the_source(tmp_path):
    put(tmp_path, "store/quarantine/q.parquet", PNG)
    put(tmp_path, "urls.txt", b"http://127.0.0.1/a.jpg\n")
    apart = Settings(store=StoreSettings(path=tmp_path / "store")).own_folders
    (item,) = open_source(str(tmp_path), SourceSettings(), apart).items()
    assert item.uri == "http://127.0.0.1/a.jpg"


def test_the_users_folder_may_be_written_as_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert names("~/pictures/*.jpg") == ["b.jpg"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nowhere", "source nowhere does not exist"),
        ("ftp://example.com/prefix", "only local files, s3:// and gs:// can be indexed"),
        ("https://example.com/a.jpg", "write URLs into a list"),
        ("s3://", "names no bucket"),
        ("s3://*/a", "names no bucket"),
    ],
)
def test_a_source_that_is_not_there_is_an_error(given, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=says):
        opened(given)


def test_sources_without_any_picture_are_an_error(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"no pictures in .*empty, .*\*\.tiff"):
        names(tmp_path / "empty", folder / "*.tiff")
    assert names(tmp_path / "empty", folder / "b.jpg") == ["b.jpg"]


@pytest.mark.parametrize(
    ("given", "inside", "outside"),
    [
        ("", ["x.jpg", "sub/x.jpg", ""], ["../x.jpg", "../pictures2/x.jpg"]),
        ("sub", ["sub/x.jpg", "sub/deep/x.jpg"], ["x.jpg", "sub2/x.jpg"]),
        ("b.jpg", ["b.jpg"], ["a.PNG", "c.jpg", "b.jpg.png"]),
        ("*.jpg", ["x.jpg", "b.jpg"], ["x.png", "sub/x.jpg", "../x.jpg", ".x.jpg", "x.JPG"]),
        ("**/*.jpg", ["x.jpg", "sub/x.jpg", "sub/deep/x.jpg"], ["x.png", "../x.jpg", ".cache/x.jpg"]),
        ("*/*.jpg", ["sub/x.jpg"], ["x.jpg", "sub/deep/x.jpg"]),
        ("sub/**", ["sub/x.jpg", "sub/deep/x.jpg"], ["x.jpg", "sub2/x.jpg"]),
        ("[xy].jpg", ["x.jpg"], ["z.jpg"]),
    ],
)
def test_a_source_covers_what_it_would_list(folder, given, inside, outside):
    """What is covered and gone is deleted on request: so not one file more."""
    source = opened(str(folder / given))
    assert [name for name in inside if not source.covers(file_uri(folder / name))] == []
    assert [name for name in outside if source.covers(file_uri(Path(os.path.normpath(folder / name))))] == []


def test_other_kinds_of_address_are_never_covered(folder):
    assert not opened(str(folder)).covers("https://example.com/a.jpg")
    assert not opened(str(folder)).covers(f"s3:/{folder}/a.jpg")


def test_a_relative_source_covers_absolute_files(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert opened(".").covers(file_uri(folder / "x.jpg"))
    assert opened("*.jpg").covers(file_uri(folder / "x.jpg"))
    assert not opened("sub").covers(file_uri(folder / "x.jpg"))
    assert opened("../pictures").covers(file_uri(folder / "x.jpg"))


def test_upward_links_are_followed_as_the_system_does(folder, tmp_path):
    put(tmp_path, "real/inner/a.png", PNG)
    put(tmp_path, "real/b.png", PNG)
    (folder / "link").symlink_to(tmp_path / "real" / "inner")
    assert names(folder / "link" / ".." / "*.png") == ["b.png"]


def test_one_file_has_one_address_however_its_source_is_written(folder, monkeypatch):
    monkeypatch.chdir(folder / "sub")
    uris = [
        sorted(file.uri for file in opened(given).items())
        for given in (str(folder), "..", "../../pictures/.")
    ]
    assert uris[0] == uris[1] == uris[2]
    assert [file.uri for file in opened("../*.jpg").items()] == [file_uri(folder / "b.jpg")]
    assert opened("../*.jpg").covers(file_uri(folder / "x.jpg"))
