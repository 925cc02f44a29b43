"""Sources in an object store, by pyarrow's real S3 client and moto's server, from listing to each picture's bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_index.sources import Reader, Source, open_source
from search_core.errors import ImageError, NotFoundError, SourceError
from search_core.payload import folder_and_name
from search_core.pictures import read_picture
from search_core.settings import ImageSettings
from tests.fixtures.containers import tar_of
from tests.fixtures.pictures import unique
from tests.fixtures.s3_proxy import Fault, S3Proxy, s3_proxy
from tests.fixtures.s3_server import CREDENTIALS, PAGE, Bucket, S3Server


@pytest.fixture(scope="module", autouse=True)
def credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[Bucket]:
    bucket = Bucket(s3_server)
    yield bucket
    bucket.close()


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy(s3_server) as proxy:
        yield proxy


def opened(bucket: Bucket, key: str) -> Source:
    return open_source(f"s3://{bucket.name}/{key}", bucket.settings)


def keys(bucket: Bucket, key: str) -> list[str]:
    return [item.uri.removeprefix(bucket.uri("")) for item in opened(bucket, key).items()]


def read(bucket: Bucket, source: Source, **limits: float) -> list[bytes | str]:
    items = [(item.uri, item.expected) for item in source.items()]
    found = Reader(bucket.settings, ImageSettings(**limits)).read(items)
    return [one.reason if isinstance(one, ImageError) else one for one in found]


def failures(bucket: Bucket, key: str) -> list[str]:
    """Why an object cannot be read."""
    found = Reader(bucket.settings, ImageSettings()).read([(bucket.uri(key), "")])
    return [one.reason for one in found if isinstance(one, ImageError)]


NAMES = (
    "cats/b.jpg",
    "cats/a b#1?ü.PNG",
    "cats/deep/c.webp",
    "cats/notes.txt",
    "cats/.d.png",
    "cats/.e/f.png",
    "catsuit.jpg",
)


@pytest.fixture
def filled(bucket: Bucket) -> Bucket:
    for number, name in enumerate(NAMES):
        bucket.put(name, unique(number))
    return bucket


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", ["catsuit.jpg", "cats/a b#1?ü.PNG", "cats/b.jpg", "cats/deep/c.webp"]),
        ("cats", ["cats/a b#1?ü.PNG", "cats/b.jpg", "cats/deep/c.webp"]),
        ("cats/", ["cats/a b#1?ü.PNG", "cats/b.jpg", "cats/deep/c.webp"]),
        ("cats/b.jpg", ["cats/b.jpg"]),
        ("cats/.d.png", ["cats/.d.png"]),
        ("*.jpg", ["catsuit.jpg"]),
        ("cats/*", ["cats/a b#1?ü.PNG", "cats/b.jpg"]),
        ("**/*.jpg", ["catsuit.jpg", "cats/b.jpg"]),
        ("*/*/?.webp", ["cats/deep/c.webp"]),
    ],
)
def test_prefixes_globs_and_objects(filled, given, found):
    assert keys(filled, given) == found
    source = opened(filled, given)
    assert all(source.covers(item.uri) and not source.is_gone(item.uri) for item in source.items())


def test_an_item_is_what_the_listing_says_and_its_bytes_can_be_had(filled):
    source = opened(filled, "cats")
    items = list(source.items())
    data = [unique(NAMES.index(item.uri.removeprefix(filled.uri("")))) for item in items]
    assert [item.size for item in items] == [len(one) for one in data]
    for item in items:
        assert item.modified is not None
        size, mtime_ns = item.version.split(":")
        assert (int(size), int(mtime_ns) // 10**9) == (item.size, int(item.modified.timestamp()))
    assert read(filled, source) == data
    assert [read_picture(item.uri, filled.settings) for item in items] == data


def test_a_changed_object_has_another_version(filled):
    (before,) = opened(filled, "cats/b.jpg").items()
    filled.put("cats/b.jpg", unique(99) + b"longer")
    (after,) = opened(filled, "cats/b.jpg").items()
    assert (before.uri, before.version) != (after.uri, after.version)
    assert before.uri == after.uri


@pytest.mark.parametrize(
    ("given", "covered", "other"),
    [
        ("cats", ["cats/x.jpg", "cats/deep/x.jpg"], ["catsuit.jpg", "x.jpg"]),
        ("*.jpg", ["x.jpg"], ["x.png", "cats/x.jpg", ".x.jpg"]),
        ("cats/b.jpg", ["cats/b.jpg"], ["cats/b.jpg.jpg"]),
    ],
)
def test_a_source_covers_what_it_would_list(filled, given, covered, other):
    source = opened(filled, given)
    assert all(source.covers(filled.uri(key)) for key in covered)
    assert not any(source.covers(filled.uri(key)) for key in other)
    assert not source.covers(f"gs://{filled.name}/{covered[0]}")
    assert not source.covers(f"s3://other/{covered[0]}")


def test_what_is_deleted_is_gone_and_what_is_there_is_not(filled):
    source = opened(filled, "cats")
    filled.delete("cats/b.jpg")
    assert source.is_gone(filled.uri("cats/b.jpg"))
    assert not source.is_gone(filled.uri("cats/deep/c.webp"))
    assert read(filled, opened(filled, "cats/deep"))
    assert failures(filled, "cats/b.jpg") == ["missing"]
    with pytest.raises(NotFoundError, match="cannot be read"):
        read_picture(filled.uri("cats/b.jpg"), filled.settings)


def test_a_listing_goes_over_pages(bucket):
    for number in range(PAGE + 3):
        bucket.put(f"many/{number:05}.jpg", b"x")
    assert keys(bucket, "many") == [f"many/{number:05}.jpg" for number in range(PAGE + 3)]


@pytest.fixture
def paged(bucket: Bucket, proxy: S3Proxy) -> Bucket:
    """Three pages of a listing, by way of the proxy."""
    for number in range(5):
        bucket.put(f"many/{number}.jpg", unique(number))
    proxy.page = 2
    bucket.settings = bucket.reached_by(proxy.endpoint)
    return bucket


def test_the_pages_were_asked_for_one_by_one(paged, proxy):
    source = opened(paged, "many")
    proxy.asked.clear()
    assert len(list(source.items())) == 5
    assert ["continuation-token" in asked for asked in proxy.asked if "list-type" in asked] == [
        False,
        True,
        True,
    ]


def test_a_listing_that_breaks_off_is_an_error(paged, proxy):
    source = opened(paged, "many")
    proxy.fail(Fault.ERROR, "continuation-token")
    with pytest.raises(SourceError, match="cannot be listed") as caught:
        list(source.items())
    assert "\n" not in str(caught.value)


def test_a_store_that_does_not_answer_says_nothing_of_what_is_gone(paged, proxy):
    source = opened(paged, "many")
    proxy.fail(Fault.HANG_UP)
    assert not source.is_gone(paged.uri("many/other.jpg"))
    with pytest.raises(SourceError, match="cannot be listed"):
        list(source.items())
    assert failures(paged, "many/0.jpg") == ["unreachable"]


@pytest.mark.parametrize("fault", Fault)
def test_an_object_that_does_not_come_to_its_end_is_unreachable_until_it_does(paged, proxy, fault):
    paged.settings = paged.reached_by(proxy.endpoint, timeout_s=1)
    proxy.fail(fault, "GET /")
    assert failures(paged, "many/0.jpg") == ["unreachable"]
    proxy.heal()
    assert failures(paged, "many/0.jpg") == []


def test_a_store_that_fails_once_is_asked_again(paged, proxy):
    paged.settings = paged.reached_by(proxy.endpoint, retries=1)
    source = opened(paged, "many")
    proxy.fail(Fault.ERROR, "continuation-token", times=1)
    assert len(list(source.items())) == 5
    proxy.fail(Fault.ERROR, "many/0.jpg", times=1)
    assert read(paged, source) == [unique(number) for number in range(5)]


def test_what_is_not_there_is_an_error(filled):
    for given in (f"s3://{filled.name}/dogs", f"s3://no-{filled.name}", f"s3://no-{filled.name}/*.jpg"):
        with pytest.raises(SourceError, match="does not exist"):
            open_source(given, filled.settings)
    assert keys(filled, "cats/*.tiff") == []


def test_large_objects_are_not_read(bucket):
    bucket.put("a/large.jpg", b"x" * 2_000)
    bucket.put("a/small.jpg", b"x" * 1_000)
    assert read(bucket, opened(bucket, "a"), max_image_mb=0.001) == ["too_many_bytes", b"x" * 1_000]


def test_tables_tars_and_lists_in_a_bucket(bucket):
    data = [unique(number) for number in range(5)]
    table = io.BytesIO()
    pq.write_table(pa.table({"jpg": data[:3], "text": ["one", "two", "three"]}), table, row_group_size=2)
    bucket.put("tables/a.parquet", table.getvalue())
    bucket.put("tars/0#0.tar", tar_of({"x#ü.jpg": data[3], "x#ü.txt": b"four", "y.png": data[4]}))
    bucket.put("lists/a.txt", b"https://example.com/a.jpg\n")
    start = f"s3://{bucket.name}"
    rows, tars, urls = (opened(bucket, name) for name in ("tables", "tars/*.tar", "lists/a.txt"))
    assert [(item.uri, item.captions) for item in rows.items()] == [
        (f"{start}/tables/a.parquet#0.0", ("one",)),
        (f"{start}/tables/a.parquet#0.1", ("two",)),
        (f"{start}/tables/a.parquet#1.0", ("three",)),
    ]
    assert [(item.uri, item.captions) for item in tars.items()] == [
        (f"{start}/tars/0#0.tar#x#ü.jpg", ("four",)),
        (f"{start}/tars/0#0.tar#y.png", ()),
    ]
    assert [item.uri for item in urls.items()] == ["https://example.com/a.jpg"]
    assert read(bucket, rows) + read(bucket, tars) == data
    uris = [item.uri for source in (rows, tars) for item in source.items()]
    assert [read_picture(uri, bucket.settings) for uri in uris] == data
    assert not any(rows.is_gone(uri) for uri in uris[:3])
    assert rows.is_gone(f"{start}/tables/a.parquet#1.1")
    assert rows.is_gone(f"{start}/tables/b.parquet#0.0")
    assert folder_and_name(uris[0]) == ("a.parquet", "0.0")


def test_a_google_bucket_is_only_opened():
    """There is no server to ask here: that the client can be made is all this says."""
    from pyarrow import fs

    from search_core.object_store import open_filesystem
    from search_core.settings import SourceSettings

    filesystem, path = open_filesystem("gs://bucket/a/b.jpg", SourceSettings(anonymous=True))
    assert isinstance(filesystem, fs.GcsFileSystem)
    assert path == "bucket/a/b.jpg"
