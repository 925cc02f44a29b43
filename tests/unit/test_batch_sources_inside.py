"""Pictures in tables, tars and lists: how they are told apart, listed and read."""

from __future__ import annotations

import os
import pickle
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_index.sources import Reader, Source, SourceItem, open_source
from search_core import containers
from search_core.errors import ImageError, NotFoundError, SourceError
from search_core.pictures import file_uri, read_picture
from search_core.settings import ImageSettings, SourceSettings
from tests.fixtures.containers import tar_of
from tests.fixtures.pictures import put, unique

DATA = [unique(number) for number in range(10)]


def opened(given: Path | str, **settings: Any) -> Source:
    return open_source(str(given), SourceSettings(**settings))


def items(given: Path | str, **settings: Any) -> list[SourceItem]:
    return list(opened(given, **settings).items())


def read(
    some: list[SourceItem] | list[tuple[str, str]], max_image_mb: float = 64, **settings: Any
) -> list[bytes | str]:
    """Bytes, or the reason why there are none."""
    pairs = [(item.uri, item.expected) if isinstance(item, SourceItem) else item for item in some]
    found = Reader(SourceSettings(**settings), ImageSettings(max_image_mb=max_image_mb)).read(pairs)
    return [one.reason if isinstance(one, ImageError) else one for one in found]


def table(path: Path, row_group_size: int = 4, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


# --- tables ---


def test_a_row_is_named_by_its_group_and_place(tmp_path):
    path = table(
        tmp_path / "a b#c.parquet", image=DATA, caption=[f"text {n}" for n in range(10)], n=list(range(10))
    )
    found = items(path)
    uri = file_uri(path)
    assert [item.uri for item in found] == [f"{uri}#{n // 4}.{n % 4}" for n in range(10)]
    assert [item.captions for item in found] == [(f"text {n}",) for n in range(10)]
    assert [item.columns for item in found] == [{"n": n} for n in range(10)]
    status = path.stat()
    assert {item.version for item in found} == {f"{status.st_size}:{status.st_mtime_ns}"}
    assert {item.size for item in found} == {0}
    assert read(found) == DATA
    assert [read_picture(item.uri) for item in found] == DATA


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(), pa.large_binary(), pa.binary_view(),
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    ],
    ids=str,
)  # fmt: skip
def test_bytes_may_be_stored_in_several_ways(tmp_path, kind):
    values: list[Any] = [*DATA[:3], None]
    if pa.types.is_struct(kind):
        values = [None if one is None else {"bytes": one, "path": "x.png"} for one in values]
    found = items(table(tmp_path / "a.parquet", anything=pa.array(values, kind)))
    assert [item.columns for item in found] == [{}] * 4
    assert read(found) == [*DATA[:3], "missing"]


def test_columns_are_found_by_name_or_named(tmp_path):
    other = [b"other"] * 2
    path = table(
        tmp_path / "a.parquet",
        mask=other,
        JPG=DATA[:2],
        URL=["x", "y"],
        Text=["a", "b"],
        title=[["c", "d"], None],
        e=[[0.5]] * 2,
    )
    assert read(items(path)) == DATA[:2]
    assert [item.captions for item in items(path)] == [("a",), ("b",)]
    assert [item.captions for item in items(path, caption_column="title")] == [("c", "d"), ()]
    assert dict(items(path)[0].columns) == {"URL": "x", "title": ["c", "d"]}
    assert read(items(path, image_column="mask"), image_column="mask") == other
    assert read_picture(items(path)[0].uri, SourceSettings(image_column="mask")) == b"other"


@pytest.mark.parametrize(
    ("columns", "settings", "says"),
    [
        ({"n": [1]}, {}, "no column with pictures or URLs .* among: n"),
        ({"one": [b"x"], "two": [b"y"]}, {}, "name the column of pictures .* one, two"),
        ({"image": [b"x"]}, {"image_column": "jpg"}, "no column 'jpg' with bytes; there are: image"),
        ({"image": ["x"]}, {"image_column": "image"}, "no column 'image' with bytes"),
        ({"image": [b"x"]}, {"url_column": "u"}, "no column 'u'"),
        ({"image": [b"x"]}, {"caption_column": "c"}, "no column 'c'"),
    ],
)
def test_a_table_without_the_columns_is_an_error(tmp_path, columns, settings, says):
    path = table(tmp_path / "a.parquet", **columns)
    with pytest.raises(SourceError, match=says) as caught:
        items(path, **settings)
    assert file_uri(path) in str(caught.value)


def test_a_damaged_table_is_an_error_and_its_rows_are_unreadable(tmp_path):
    path = table(tmp_path / "a.parquet", image=DATA)
    found = items(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match="cannot be read") as caught:
        items(path)
    assert "\n" not in str(caught.value)
    assert read(found) == ["unreadable"] * 10
    path.unlink()
    assert read(found) == ["missing"] * 10
    with pytest.raises(NotFoundError):
        read_picture(found[0].uri)


def test_damage_inside_a_group_costs_no_other_group(tmp_path):
    path = table(tmp_path / "a.parquet", image=DATA)
    found = items(path)
    whole = bytearray(path.read_bytes())
    with pq.ParquetFile(path) as file:
        start = file.metadata.row_group(1).column(0).dictionary_page_offset
    whole[start : start + 30] = b"\xff" * 30
    path.write_bytes(whole)
    assert read(found) == [*DATA[:4], *["unreadable"] * 4, *DATA[8:]]


def test_rows_may_be_asked_for_in_any_order(tmp_path):
    path = table(tmp_path / "a.parquet", image=DATA)
    uri = file_uri(path)
    asked = ["0.3", "0.1", "0.1", "2.1", "1.0", "1.3", "0.0"]
    assert read([(f"{uri}#{row}", "") for row in asked]) == [DATA[n] for n in (3, 1, 1, 9, 4, 7, 0)]
    none = ["0.4", "3.0", "x", "1", "0.-1", "0.1.2"]
    assert read([(f"{uri}#{row}", "") for row in none]) == ["missing"] * 6
    assert read([(f"{uri}#0.{row}", "") for row in (1, 4, 2)]) == [DATA[1], "missing", DATA[2]]


def test_a_group_is_read_once_and_in_parts(tmp_path, monkeypatch):
    """Counted at the one place where batches of rows are read."""
    path = table(
        tmp_path / "a.parquet", row_group_size=1000, image=[n.to_bytes(4) * 500 for n in range(2000)]
    )
    found, passes = items(path), []
    batches = containers.row_batches

    def counted(file: Any, group: int, columns: Any) -> Iterator[Any]:
        passes.append([group, 0])
        for batch in batches(file, group, columns, at_once=100_000):
            passes[-1][1] += 1
            yield batch

    monkeypatch.setattr(containers, "row_batches", counted)
    results = Reader(SourceSettings(), ImageSettings()).read([(item.uri, "") for item in found])
    next(results)
    assert passes == [[0, 1]]  # the rest is not read before it is asked for
    assert sum(len(one) for one in results if isinstance(one, bytes)) == 1999 * 2000
    assert [group for group, _ in passes] == [0, 1]
    assert min(parts for _, parts in passes) > 10


def test_a_column_of_urls_gives_urls(tmp_path):
    urls = ["https://example.com/a.jpg", None, "no url", "HTTP://example.com/b.jpg"]
    path = table(tmp_path / "a.parquet", url=urls, caption=["a", "b", "c", "d"], n=[1, 2, 3, 4])
    assert items(path) == [
        SourceItem(urls[0], "", 0, None, ("a",), {"n": 1}),
        SourceItem(urls[3], "", 0, None, ("d",), {"n": 4}),
    ]
    both = table(tmp_path / "b.parquet", image=DATA[:1], link=urls[:1])
    assert [item.uri for item in items(both, url_column="link")] == urls[:1]
    assert read(items(both)) == DATA[:1]


# --- tars ---


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_are_grouped_by_key(tmp_path, format):  # noqa: A002
    long = "f/" + "x" * 90 + "/" + "ü" * (20 if format == tarfile.USTAR_FORMAT else 120)
    path = put(
        tmp_path,
        "a.tar",
        tar_of(
            {
                "00/1.jpg": DATA[0], "00/1.txt": b"one\n\n two \n", "00/1.json": b'{"caption": "two", "id": 7}', "00/1.cls": b"3",
                "00/2.left.png": DATA[1], "00/2.right.png": DATA[2], "00/2.json": b'{"text": ["x", "y"]}',
                "01/2.webp": DATA[3], "01/2.json": b"broken", "notes.txt": b"no picture", "01/.3.jpg": b"hidden",
                f"{long} #%.jpg": DATA[4],
            },
            format,
        ),
    )  # fmt: skip
    found = items(path)
    uri = file_uri(path)
    assert [item.uri for item in found][:4] == [
        f"{uri}#00/1.jpg", f"{uri}#00/2.left.png", f"{uri}#00/2.right.png", f"{uri}#01/2.webp",
    ]  # fmt: skip
    assert [item.captions for item in found] == [("one", "two"), ("x", "y"), ("x", "y"), (), ()]
    assert [dict(item.columns) for item in found] == [{"id": 7}, {}, {}, {}, {}]
    assert [item.size for item in found] == [len(one) for one in DATA[:5]]
    assert read(found) == DATA[:5]
    assert [read_picture(item.uri) for item in found] == DATA[:5]


def test_members_are_found_again_in_a_tar_that_was_replaced(tmp_path):
    path = put(tmp_path, "a.tar", tar_of({"1.jpg": DATA[0], "2.jpg": DATA[1]}))
    found = items(path)
    path.write_bytes(tar_of({"0.jpg": b"some more", "2.jpg": DATA[1] + b"!"}))
    assert read(found) == ["missing", DATA[1] + b"!"]


def test_members_that_are_too_large_are_not_read(tmp_path):
    path = put(tmp_path, "a.tar", tar_of({"1.jpg": b"x" * 1001, "2.jpg": b"x" * 1000}))
    assert read(items(path), max_image_mb=0.001) == ["too_many_bytes", b"x" * 1000]


@pytest.mark.parametrize("damage", ["header", "inside", "between", "empty", "nonsense"])
def test_a_tar_that_breaks_off_is_an_error(tmp_path, damage):
    """What it lost must not be taken for deleted."""
    path = put(tmp_path, "a.tar", tar_of({"1.jpg": b"x" * 600, "2.jpg": b"y" * 600}))
    whole = path.read_bytes()
    second = 512 + 1024
    path.write_bytes(
        {
            "header": whole[:second] + b"\xff" * 512 + whole[second + 512 :],
            "inside": whole[: second + 800],
            "between": whole[:second],
            "empty": b"",
            "nonsense": b"this is no tar" * 100,
        }[damage]
    )
    with pytest.raises(SourceError, match="cannot be read") as caught:
        items(path)
    assert "\n" not in str(caught.value)


# --- lists ---


def test_a_plain_list(tmp_path):
    text = "\ufeffhttps://example.com/a.jpg\r\n\n# a note\n  http://example.com/b.jpg#x  \nhttps://example.com/a.jpg"
    path = put(tmp_path, "list.txt", text.encode())
    assert list(dict.fromkeys(item.uri for item in opened(path).items())) == [
        "https://example.com/a.jpg",
        "http://example.com/b.jpg#x",
    ]
    assert items(path)[0] == SourceItem("https://example.com/a.jpg", "", 0, None)
    put(tmp_path, "list.txt", b"https://example.com/a.jpg\nfile:///etc/passwd\n")
    with pytest.raises(SourceError, match=r"list\.txt, line 2: 'file:///etc/passwd' is no http"):
        items(path)


def test_the_list_of_open_images(tmp_path):
    lines = [
        "TsvHttpData-1.0",
        "https://c2.staticflickr.com/6/5606/15611395595_f51465687d_o.jpg\t2038323\tI4V4qq54NBEFDwBqPYCkDA==",
        "https://example.com/b.jpg",
    ]
    path = put(tmp_path, "train.tsv", "\n".join(lines).encode())
    assert items(path) == [
        SourceItem(
            lines[1].split("\t")[0], "I4V4qq54NBEFDwBqPYCkDA==", 2038323, None,
            expected="size=2038323;md5=I4V4qq54NBEFDwBqPYCkDA==",
        ),
        SourceItem("https://example.com/b.jpg", "", 0, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://example.com/a.jpg\t1\tx", "first line must be TsvHttpData-1.0"),
        ("", "first line must be TsvHttpData-1.0"),
        ("TsvHttpData-1.0\nftp://example.com/a.jpg\t1\tx", "line 2: 'ftp://example.com/a.jpg' is no http"),
        ("TsvHttpData-1.0\nhttps://example.com/a.jpg\tmany\tx", "line 2: 'many' is no size"),
    ],
)
def test_a_list_of_another_form_is_an_error(tmp_path, text, says):
    with pytest.raises(SourceError, match=says):
        items(put(tmp_path, "a.tsv", text.encode()))


# --- which is which ---


def test_pictures_come_before_tars_tables_and_lists(tmp_path):
    found = []
    put(tmp_path, "x/notes.txt", b"https://example.com/n.jpg")
    found.append([item.uri for item in items(tmp_path)])
    put(tmp_path, "x/list.tsv", b"TsvHttpData-1.0\nhttps://example.com/t.jpg")
    found.append([item.uri for item in items(tmp_path)])
    table(tmp_path / "y/1.parquet", image=DATA[:1])
    table(tmp_path / "y/2.PARQUET", image=DATA[:1])
    found.append([item.uri.rpartition("/")[2] for item in items(tmp_path)])
    put(tmp_path, "z.tar", tar_of({"a.jpg": DATA[0]}))
    found.append([item.uri.rpartition("/")[2] for item in items(tmp_path)])
    put(tmp_path, "b.jpg", DATA[0])
    found.append([item.uri.rpartition("/")[2] for item in items(tmp_path)])
    assert found == [
        ["https://example.com/n.jpg"], ["https://example.com/t.jpg"], ["1.parquet#0.0", "2.PARQUET#0.0"], ["z.tar#a.jpg"], ["b.jpg"],
    ]  # fmt: skip
    assert [item.uri.rpartition("/")[2] for item in items(tmp_path / "*" / "*.parquet")] == ["1.parquet#0.0"]


def test_a_container_source_covers_what_is_inside_its_files(tmp_path):
    path = table(tmp_path / "in/a.parquet", image=DATA)
    uri, source = file_uri(path), opened(tmp_path / "in")
    assert source.covers(f"{uri}#0.0")
    assert source.covers(f"{uri}#99.0")
    for other in (
        uri,
        file_uri(tmp_path / "a.parquet") + "#0.0",
        file_uri(tmp_path / "in/a.tar") + "#a.jpg",
        file_uri(tmp_path / "in/a.jpg"),
    ):
        assert not source.covers(other)
    assert not opened(put(tmp_path, "l.txt", b"https://example.com/a.jpg")).covers(
        "https://example.com/a.jpg"
    )
    put(tmp_path, "in/a.jpg", DATA[0])
    assert not opened(tmp_path / "in").covers(f"{uri}#0.0")
    assert source.folder() == tmp_path / "in"


def test_a_row_is_gone_with_its_file_or_where_the_file_has_shrunk(tmp_path):
    path = table(tmp_path / "a.parquet", image=DATA)
    uri, source = file_uri(path), opened(tmp_path)
    assert [source.is_gone(f"{uri}#{row}") for row in ("0.0", "2.1", "2.2", "3.0", "x")] == [
        False,
        False,
        True,
        True,
        True,
    ]
    table(path, image=DATA[:4])
    os.utime(path, ns=(0, 1))
    assert [source.is_gone(f"{uri}#{row}") for row in ("0.0", "2.1")] == [False, True]
    path.write_bytes(b"damaged")
    assert not source.is_gone(f"{uri}#2.1")
    path.unlink()
    assert source.is_gone(f"{uri}#0.0")
    tar = put(tmp_path, "b.tar", tar_of({"a.jpg": DATA[0]}))
    source = opened(tar)
    assert [source.is_gone(f"{file_uri(tar)}#{name}") for name in ("a.jpg", "b.jpg")] == [False, True]


def test_items_of_a_group_are_named_alike():
    assert (
        Reader.group("file:///a.parquet#3.17")
        == Reader.group("file:///a.parquet#3.2")
        != Reader.group("file:///a.parquet#4.2")
    )
    assert Reader.group("s3://b/a.tar#x/y.jpg") == Reader.group("s3://b/a.tar#z") == "s3://b/a.tar"
    assert {
        Reader.group(uri) for uri in ("file:///a.jpg", "s3://b/a#b.jpg", "https://h/a.tar#b", "s3://b/a.tar")
    } == {""}


def test_a_reader_travels_and_takes_everything_mixed(tmp_path):
    path = table(tmp_path / "a.parquet", image=DATA)
    tar = put(tmp_path, "a.tar", tar_of({"a.jpg": DATA[5]}))
    file = put(tmp_path, "b.jpg", DATA[6])
    asked = [
        (f"{file_uri(path)}#0.1", ""), (file_uri(file), ""), (f"{file_uri(tar)}#a.jpg", ""), (f"{file_uri(tar)}#b.jpg", ""),
        (file_uri(tmp_path / "no.jpg"), ""), ("nonsense", ""), (f"{file_uri(path)}#0.0", ""), ("http://[", ""),
    ]  # fmt: skip
    reader = pickle.loads(pickle.dumps(Reader(SourceSettings(), ImageSettings())))
    found = [one.reason if isinstance(one, ImageError) else one for one in reader.read(asked)]
    assert found == [DATA[1], DATA[6], DATA[5], "missing", "missing", "unreachable", DATA[0], "unreachable"]
    assert list(reader.read([])) == []


def test_a_reader_that_is_left_early_leaves_nothing_open(tmp_path):
    """Warnings are errors here: an open file or loop would be one."""
    path = table(tmp_path / "a.parquet", image=DATA)
    for asked in (
        [(item.uri, "") for item in items(path)],
        [(file_uri(put(tmp_path, "b.jpg", b"x")), "")] * 50,
    ):
        results = Reader(SourceSettings(), ImageSettings()).read(asked)
        assert isinstance(next(results), bytes)
        results.close()  # type: ignore[attr-defined]


# --- folders that cannot be read ---


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder of somebody without rights: root may read anything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        put(folder, "a.jpg", DATA[0])
        shut = put(folder, "shut/b.jpg", DATA[1]).parent
        before = os.geteuid()
        for mode in (0o000, 0o444):  # may be neither listed nor entered; may be listed only
            shut.chmod(mode)
        if before == 0:
            os.seteuid(65534)
        yield folder
        os.seteuid(before)
        shut.chmod(0o755)


def test_what_is_below_an_unreadable_folder_is_not_gone(nobody):
    source = opened(nobody)
    assert [item.uri for item in source.items()] == [file_uri(nobody / "a.jpg")]
    assert not source.is_gone(file_uri(nobody / "shut/b.jpg"))
    assert not source.is_gone(file_uri(nobody / "shut/never.jpg"))
    assert source.is_gone(file_uri(nobody / "never.jpg"))
    assert not source.is_gone(file_uri(nobody / "a.jpg"))
    everywhere = opened(nobody / "**" / "*.jpg")
    assert [item.uri for item in everywhere.items()] == [file_uri(nobody / "a.jpg")]
    assert not everywhere.is_gone(file_uri(nobody / "shut/b.jpg"))


def test_what_is_below_a_folder_that_could_not_be_listed_is_not_gone(tmp_path, monkeypatch):
    """Whatever the system says of a single file there, as a network drive may."""
    put(tmp_path, "a.jpg", DATA[0])
    put(tmp_path, "drive/b.jpg", DATA[1])
    scan = os.scandir

    def failing(path: Any) -> Any:
        if str(path).endswith("drive"):
            raise OSError(5, "Input/output error", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", failing)
    source = opened(tmp_path)
    assert [item.uri for item in source.items()] == [file_uri(tmp_path / "a.jpg")]
    assert not source.is_gone(file_uri(tmp_path / "drive/never.jpg"))
    assert source.is_gone(file_uri(tmp_path / "other/never.jpg"))


def test_a_folder_that_vanishes_is_no_empty_one(tmp_path):
    put(tmp_path, "in/a.jpg", DATA[0])
    source = opened(tmp_path / "in")
    (tmp_path / "in").rename(tmp_path / "out")
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        list(source.items())
