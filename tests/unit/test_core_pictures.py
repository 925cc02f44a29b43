"""Reading indexed pictures back, and thumbnails that never go stale."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search_core.errors import ImageError, NotFoundError
from search_core.pictures import ThumbnailCache, file_uri, is_remote, local_path, make_thumbnail, read_picture
from search_core.settings import ImageSettings
from tests.fixtures.pictures import encoded, photo, plain, put, quarters

LIMITS = ImageSettings(thumbnail_px=64)
NAMES = [
    "a.jpg",
    "with space.jpg",
    "ümläut 日本.jpg",
    "per%20cent.jpg",
    "hash#query?.jpg",
    "plus+&.jpg",
    "-dash",
    "a:b@c.jpg",
]


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("name", NAMES)
def test_a_uri_leads_back_to_its_file(tmp_path, name):
    path = put(tmp_path, name, b"content")
    uri = file_uri(path)
    assert uri.startswith("file:///")
    assert uri.isascii()
    assert local_path(uri) == path
    assert read_picture(uri) == b"content"


def test_a_name_that_is_no_text_leads_back_too(tmp_path):
    path = Path(str(tmp_path), b"caf\xe9.jpg".decode("utf-8", "surrogateescape"))
    path.write_bytes(b"content")
    uri = file_uri(path)
    uri.encode("ascii")
    assert local_path(uri) == path
    assert read_picture(uri) == b"content"


def test_a_uri_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert file_uri(Path("a.jpg")) == f"file://{tmp_path}/a.jpg"


def test_only_web_addresses_are_remote():
    assert [is_remote(uri) for uri in ("http://h/a", "https://h/a", "file:///a", "s3://b/a")] == [
        True,
        True,
        False,
        False,
    ]
    assert local_path("https://h/a") is None


@pytest.mark.parametrize("uri", ["file:///nowhere/a.jpg", "nonsense://x/y", "no uri at all"])
def test_a_picture_that_is_not_there_is_not_found(uri):
    with pytest.raises(NotFoundError, match="cannot be read") as caught:
        read_picture(uri)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(NotFoundError, match="cannot be read"):
        read_picture(file_uri(tmp_path))


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((640, 480), (64, 48)), ((300, 600), (32, 64)), ((30, 20), (30, 20)), ((5000, 3), (64, 1))],
)
def test_a_thumbnail_fits_and_keeps_its_shape(size, wanted):
    thumbnail = opened(make_thumbnail(encoded(photo(*size), "PNG"), LIMITS))
    assert thumbnail.format == "JPEG"
    assert thumbnail.size == wanted


def test_a_thumbnail_is_upright_and_on_white():
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = quarters(480, 320).transpose(Image.Transpose.ROTATE_90)
    thumbnail = opened(make_thumbnail(encoded(stored, "JPEG", exif=exif, quality=95), LIMITS))
    assert thumbnail.size == (64, 43)
    assert np.abs(np.array(thumbnail.getpixel((8, 8))) - (255, 0, 0)).max() < 16
    clear = opened(make_thumbnail(encoded(Image.new("RGBA", (80, 80), (0, 0, 0, 0)), "PNG"), LIMITS))
    assert clear.getpixel((10, 10)) == (255, 255, 255)


def test_a_thumbnail_of_a_scaled_jpeg_is_sharp_enough():
    """Decoding at reduced scale must not leave fewer pixels than the thumbnail has."""
    data = encoded(photo(2000, 1500), "JPEG", quality=92)
    thumbnail = np.asarray(opened(make_thumbnail(data, LIMITS)), np.int16)
    full = photo(2000, 1500)
    full.thumbnail((64, 64), Image.Resampling.LANCZOS)
    assert thumbnail.shape == (48, 64, 3)
    assert np.abs(thumbnail - np.asarray(full, np.int16)).mean() < 6


def test_thumbnails_carry_nothing_of_the_camera():
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    thumbnail = opened(make_thumbnail(encoded(photo(100, 80), "JPEG", exif=exif), LIMITS))
    assert not thumbnail.getexif()


def test_a_broken_picture_has_no_thumbnail():
    with pytest.raises(ImageError):
        make_thumbnail(b"no picture", LIMITS)


def test_a_thumbnail_is_made_once(tmp_path):
    cache = ThumbnailCache(tmp_path / "cache", LIMITS)
    path = put(tmp_path, "a.png", plain("red", (100, 100)))
    first = cache.get(file_uri(path), "v1")
    path.unlink()
    assert cache.get(file_uri(path), "v1") == first
    assert ThumbnailCache(tmp_path / "cache", LIMITS).get(file_uri(path), "v1") == first


def test_a_changed_picture_has_a_new_thumbnail(tmp_path):
    cache = ThumbnailCache(tmp_path / "cache", LIMITS)
    path = put(tmp_path, "a.png", plain("red", (100, 100)))
    red = cache.get(file_uri(path), "v1")
    put(tmp_path, "a.png", plain("blue", (100, 100)))
    assert cache.get(file_uri(path), "v1") == red
    assert opened(cache.get(file_uri(path), "v2")).getpixel((5, 5))[2] > 200


def test_another_size_is_another_thumbnail(tmp_path):
    uri = file_uri(put(tmp_path, "a.png", plain("red", (100, 100))))
    sizes = [
        opened(ThumbnailCache(tmp_path / "c", ImageSettings(thumbnail_px=px)).get(uri, "v")).width
        for px in (32, 64)
    ]
    assert sizes == [32, 64]


def test_what_has_no_thumbnail_is_not_found_and_leaves_nothing(tmp_path):
    cache = ThumbnailCache(tmp_path / "cache", LIMITS)
    broken = put(tmp_path, "a.png", b"no picture")
    for uri in (file_uri(broken), file_uri(tmp_path / "none.png")):
        with pytest.raises(NotFoundError):
            cache.get(uri, "v1")
    assert not list((tmp_path / "cache").rglob("*.*"))


def test_a_forgotten_thumbnail_is_gone_and_forgetting_twice_is_no_error(tmp_path):
    cache = ThumbnailCache(tmp_path / "cache", LIMITS)
    uri = file_uri(put(tmp_path, "a.png", plain("red", (100, 100))))
    cache.get(uri, "v1")
    cache.forget(uri, "v1")
    cache.forget(uri, "v1")
    assert not list((tmp_path / "cache").rglob("*.*"))
