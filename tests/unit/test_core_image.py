"""One decoder for every kind of file: right pixels, upright, on white; and one word for each way to be broken."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from search_core.errors import ImageError
from search_core.image import decode_rgb
from search_core.settings import ImageSettings
from tests.fixtures.pictures import (
    bmp_claiming,
    encoded,
    gif_claiming,
    photo,
    plain,
    png_claiming,
    quarters,
    with_exif,
)

LIMITS = ImageSettings()
LOSSY = 12  # of 255: what JPEG, lossy WebP and AVIF may change in flat quarters
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Colours inside the four quarters: upper left, upper right, lower left, lower right."""
    w, h = image.size
    spots = [(w // 4, h // 4), (3 * w // 4, h // 4), (w // 4, 3 * h // 4), (3 * w // 4, 3 * h // 4)]
    return [image.getpixel(spot) for spot in spots]


def assert_quarters(image: Image.Image, tolerance: int = 0) -> None:
    assert image.mode == "RGB"
    difference = np.abs(np.array(corners(image)) - np.array([RED, GREEN, BLUE, WHITE])).max()
    assert difference <= tolerance, corners(image)


@pytest.mark.parametrize(
    ("format", "options", "name", "tolerance"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, "jpeg", LOSSY),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, "jpeg", LOSSY),
        ("PNG", {}, "png", 0),
        ("WEBP", {"quality": 95}, "webp", LOSSY),
        ("WEBP", {"lossless": True}, "webp", 0),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, "avif", LOSSY),
        ("BMP", {}, "bmp", 0),
        ("GIF", {}, "gif", 0),
        ("TIFF", {}, "tiff", 0),
        ("TIFF", {"compression": "tiff_lzw"}, "tiff", 0),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, "tiff", 0),
        ("JPEG2000", {}, "jpeg2000", 0),
        ("PPM", {}, "ppm", 0),
        ("TGA", {}, "tga", 0),
        ("ICO", {"sizes": [(48, 32)]}, "ico", 0),
        ("QOI", {}, "qoi", 0),
    ],
)
def test_every_format_gives_its_pixels(format, options, name, tolerance):  # noqa: A002
    decoded = decode_rgb(encoded(quarters(), format, **options), LIMITS)
    assert (decoded.width, decoded.height, decoded.format) == (48, 32, name)
    assert decoded.rgb.size == (48, 32)
    assert_quarters(decoded.rgb, tolerance)


@pytest.mark.parametrize("mode", ["RGBA", "P", "PA"])
def test_opaque_modes_of_png_keep_their_colours(mode):
    image = quarters().convert("RGBA").convert("P") if mode == "PA" else quarters().convert(mode)
    assert_quarters(decode_rgb(encoded(image, "PNG"), LIMITS).rgb)


def test_a_grey_jpeg_becomes_rgb():
    rgb = decode_rgb(encoded(Image.new("L", (20, 10), 100), "JPEG", quality=95), LIMITS).rgb
    assert rgb.mode == "RGB"
    assert rgb.getpixel((5, 5)) == (100, 100, 100)


@pytest.mark.parametrize(("format", "tolerance"), [("JPEG", LOSSY), ("TIFF", 0)])
def test_cmyk_becomes_rgb(format, tolerance):  # noqa: A002
    options = {"quality": 95, "subsampling": 0} if format == "JPEG" else {}
    assert_quarters(decode_rgb(encoded(quarters().convert("CMYK"), format, **options), LIMITS).rgb, tolerance)


def test_a_one_bit_png_is_black_and_white():
    image = Image.new("1", (16, 16), 1)
    image.paste(0, (0, 0, 8, 16))
    rgb = decode_rgb(encoded(image, "PNG"), LIMITS).rgb
    assert [rgb.getpixel((3, 3)), rgb.getpixel((12, 3))] == [(0, 0, 0), WHITE]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_to_eight(format):  # noqa: A002
    values = np.array([[0, 256, 32768, 65535]] * 2, dtype=np.uint16)
    rgb = decode_rgb(encoded(Image.fromarray(values), format), LIMITS).rgb
    assert [rgb.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 1, 128, 255)]


def test_sixteen_bit_files_with_eight_bit_values_are_not_darkened():
    values = np.array([[0, 77, 255]], dtype=np.uint16)
    rgb = decode_rgb(encoded(Image.fromarray(values), "TIFF"), LIMITS).rgb
    assert [rgb.getpixel((x, 0))[0] for x in range(3)] == [0, 77, 255]


def test_a_float_tiff_is_stretched_over_eight_bits():
    values = np.array([[-1.0, 0.0, 1.0]], dtype=np.float32)
    rgb = decode_rgb(encoded(Image.fromarray(values), "TIFF"), LIMITS).rgb
    assert [rgb.getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (127, 127, 127), WHITE]


def test_a_flat_float_tiff_is_black_and_no_error():
    rgb = decode_rgb(encoded(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"), LIMITS).rgb
    assert rgb.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "AVIF", "TIFF", "TGA"])
def test_alpha_is_laid_on_white(format):  # noqa: A002
    image = Image.new("RGBA", (20, 20), (0, 0, 255, 0))
    image.paste((200, 0, 0, 255), (0, 0, 10, 20))
    image.paste((0, 0, 0, 51), (10, 10, 20, 20))
    options = {"lossless": True} if format == "WEBP" else {"quality": 100} if format == "AVIF" else {}
    rgb = decode_rgb(encoded(image, format, **options), LIMITS).rgb
    wanted = {(3, 3): (200, 0, 0), (17, 3): WHITE, (17, 17): (204, 204, 204)}
    for spot, colour in wanted.items():
        assert np.abs(np.array(rgb.getpixel(spot)) - colour).max() <= (3 if format == "AVIF" else 0), spot


def test_grey_with_alpha_is_laid_on_white():
    image = Image.new("LA", (4, 4), (0, 0))
    image.putpixel((0, 0), (10, 255))
    rgb = decode_rgb(encoded(image, "PNG"), LIMITS).rgb
    assert [rgb.getpixel((0, 0)), rgb.getpixel((2, 2))] == [(10, 10, 10), WHITE]


@pytest.mark.parametrize(
    ("mode", "colour", "other"), [("RGB", (1, 2, 3), (200, 0, 0)), ("L", 5, 99), ("P", 0, 1)]
)
def test_a_transparent_colour_is_laid_on_white(mode, colour, other):
    image = Image.new(mode, (8, 8), colour)
    if mode == "P":
        image.putpalette([9, 9, 9, 70, 80, 90])
    image.putpixel((0, 0), other)
    rgb = decode_rgb(encoded(image, "PNG", transparency=colour), LIMITS).rgb
    shown = {"RGB": (200, 0, 0), "L": (99, 99, 99), "P": (70, 80, 90)}[mode]
    assert [rgb.getpixel((0, 0)), rgb.getpixel((4, 4))] == [shown, WHITE]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_of_an_animation_counts(format):  # noqa: A002
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=100, **options)
    rgb = decode_rgb(data, LIMITS).rgb
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert np.abs(np.array(rgb.getpixel((8, 8))) - RED).max() <= (LOSSY if format == "AVIF" else 0)


def test_a_multi_picture_jpeg_gives_its_first():
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, BLUE)]
    decoded = decode_rgb(
        encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]), LIMITS, min_side=8
    )
    assert decoded.format == "mpo"
    assert np.abs(np.array(decoded.rgb.getpixel((4, 4))) - RED).max() <= LOSSY


UPRIGHT_TO_STORED = {  # what a camera stores for an upright picture, by its EXIF orientation
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", UPRIGHT_TO_STORED)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_each_orientation_is_set_upright(format, orientation):  # noqa: A002
    turn = UPRIGHT_TO_STORED[orientation]
    stored = quarters() if turn is None else quarters().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = (
        {"quality": 95, "subsampling": 0}
        if format == "JPEG"
        else {"lossless": True}
        if format == "WEBP"
        else {}
    )
    decoded = decode_rgb(encoded(stored, format, exif=exif, **options), LIMITS)
    assert (decoded.width, decoded.height) == decoded.rgb.size == (48, 32)
    assert_quarters(decoded.rgb, LOSSY if format == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [3, 6])
def test_scaled_decoding_is_set_upright_too_and_reports_the_original_size(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = quarters(1600, 1200).transpose(UPRIGHT_TO_STORED[orientation])
    decoded = decode_rgb(encoded(stored, "JPEG", exif=exif, quality=95), LIMITS, min_side=64)
    assert (decoded.width, decoded.height) == (1600, 1200)
    assert decoded.rgb.size == (200, 150)  # an eighth: the smallest scale that leaves twice 64 pixels
    assert_quarters(decoded.rgb, LOSSY)


@pytest.mark.parametrize(
    "exif",
    [b"garbage, not a TIFF header", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03", b"MM\0*\xff\xff\xff\xff", b""],
)
def test_damaged_exif_does_not_cost_the_picture(exif):
    assert_quarters(
        decode_rgb(with_exif(encoded(quarters(), "JPEG", quality=95, subsampling=0), exif), LIMITS).rgb, LOSSY
    )


@pytest.mark.parametrize("orientation", [0, 9, 4711])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_quarters(decode_rgb(encoded(quarters(), "PNG", exif=exif), LIMITS).rgb)


@pytest.mark.parametrize("size", [(2400, 1600), (1601, 2399)])
def test_scaled_jpeg_decoding_gives_nearly_the_same_small_picture(size):
    data = encoded(photo(*size), "JPEG", quality=92)
    full, scaled = decode_rgb(data, LIMITS), decode_rgb(data, LIMITS, min_side=224)
    assert (scaled.width, scaled.height) == (full.width, full.height) == size
    assert min(scaled.rgb.size) < min(full.rgb.size)
    assert min(scaled.rgb.size) >= 2 * 224
    small = [
        np.asarray(one.rgb.resize((224, 224), Image.Resampling.BICUBIC), np.int16) for one in (full, scaled)
    ]
    difference = np.abs(small[0] - small[1])
    assert difference.mean() < 1.5
    assert np.percentile(difference, 99) <= 8


def test_small_jpegs_are_not_scaled():
    assert decode_rgb(encoded(photo(500, 375), "JPEG"), LIMITS, min_side=224).rgb.size == (500, 375)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "JPEG2000"])
def test_decoding_is_deterministic(format):  # noqa: A002
    data = encoded(photo(333, 217), format)
    first = decode_rgb(data, LIMITS, min_side=32).rgb.tobytes()
    assert all(decode_rgb(data, LIMITS, min_side=32).rgb.tobytes() == first for _ in range(3))


PHOTO = photo(160, 120)
JPEG, PNG = encoded(PHOTO, "JPEG"), encoded(PHOTO, "PNG")


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (b"", "empty", "empty"),
        (b"this is no picture, whatever its name says", "unreadable", "not a picture"),
        (b"<html><body>404 not found</body></html>", "unreadable", "not a picture"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "unreadable", "not a picture"),
        (b"\0" * 5000, "unreadable", "not a picture"),
        (JPEG[: len(JPEG) // 2], "truncated", "cut off"),
        (JPEG[:30], "truncated", "cut off"),
        (PNG[: len(PNG) // 2], "truncated", "cut off"),
        (PNG[:20], "truncated", "cut off"),
        (encoded(PHOTO, "BMP")[:5000], "truncated", "cut off"),
        (encoded(PHOTO, "GIF")[:5000], "truncated", "cut off"),
        (encoded(PHOTO, "TIFF")[:5000], "truncated", "cut off"),
        (encoded(PHOTO, "ICO", sizes=[(64, 48)])[:2000], "truncated", "cut off"),
        (encoded(PHOTO, "WEBP")[:500], "unreadable", "damaged"),
        (PNG[:200] + b"\xff" * 4000 + PNG[4200:], "unreadable", "damaged"),
        (png_claiming(0, 0), "unreadable", "not a picture"),  # Pillow knows no picture without pixels
        (gif_claiming(0, 0), "unreadable", "not a picture"),
        (bmp_claiming(0, 0), "unreadable", "not a picture"),
        (png_claiming(60_000, 60_000), "too_many_pixels", "pixels"),
        (png_claiming(2**31 - 1, 2**31 - 1), "too_many_pixels", "pixels"),
        (gif_claiming(65_535, 65_535), "too_many_pixels", "pixels"),
        (png_claiming(40, 40), "truncated", "cut off"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
@pytest.mark.parametrize("min_side", [None, 32])
def test_broken_files_have_a_reason_and_one_line(data, reason, says, min_side):
    with pytest.raises(ImageError) as caught:
        decode_rgb(data, LIMITS, min_side=min_side)
    assert caught.value.reason == reason
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "TGA", "QOI", "ICO"]
)
def test_damage_anywhere_gives_a_picture_or_an_image_error(format):  # noqa: A002
    whole = bytearray(encoded(photo(64, 48), format))
    seed = 7
    rng = np.random.default_rng(seed)
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 12):
            data[place] = rng.integers(0, 256)
        data = data[: rng.integers(1, len(data) + 1)]
        try:
            assert decode_rgb(bytes(data), ImageSettings(max_megapixels=4)).rgb.mode == "RGB"
        except ImageError as error:
            assert error.reason in {"unreadable", "truncated", "too_many_pixels"}  # noqa: PT017


def test_programs_in_the_clothes_of_pictures_are_not_run():
    """PostScript needs an interpreter: no stranger's file may start one."""
    with pytest.raises(ImageError, match="not a picture in a format that is known here"):
        decode_rgb(encoded(quarters(), "EPS"), LIMITS)


def test_the_limit_on_bytes_is_checked_before_anything_is_decoded():
    limits = ImageSettings(max_image_mb=0.001)
    with pytest.raises(ImageError, match=r"0\.1 MB is more than the limit of 0\.001 MB") as caught:
        decode_rgb(b"no picture at all" * 4000, limits)
    assert caught.value.reason == "too_many_bytes"
    assert decode_rgb(plain("red"), limits).width == 40


def test_the_limit_on_pixels_is_what_the_setting_says():
    data = plain("red", (100, 101))
    with pytest.raises(
        ImageError, match=r"100x101 pixels are more than the limit of 0\.01 megapixels"
    ) as caught:
        decode_rgb(data, ImageSettings(max_megapixels=0.01))
    assert caught.value.reason == "too_many_pixels"
    assert decode_rgb(data, ImageSettings(max_megapixels=0.0101)).height == 101
