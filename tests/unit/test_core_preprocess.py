"""Pictures to model input: the geometry of each resize mode. (Parity with open_clip: tests/integration.)"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from search_core.image import decode_rgb
from search_core.model import Preprocess
from search_core.preprocess import pixels_of, to_pixels
from search_core.settings import ImageSettings
from tests.fixtures.pictures import encoded, photo

MODES = ("shortest", "longest", "squash")
SIZES = [(64, 48), (48, 64), (50, 50), (7, 5), (500, 33), (33, 500), (1, 1), (1, 400), (400, 1)]


def recipe(
    mode: str, size: tuple[int, int] = (32, 32), interpolation: str = "bicubic", fill: int = 0
) -> Preprocess:
    return Preprocess(size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), interpolation, mode, fill)


def thirds() -> Image.Image:
    """90 x 30: red, green and blue thirds, side by side."""
    image = Image.new("RGB", (90, 30), (255, 0, 0))
    image.paste((0, 255, 0), (30, 0, 60, 30))
    image.paste((0, 0, 255), (60, 0, 90, 30))
    return image


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", [(32, 32), (24, 40), (40, 24)])
@pytest.mark.parametrize("size", SIZES)
def test_any_picture_gets_the_size_of_the_model(mode, target, size):
    pixels = to_pixels(photo(*size), recipe(mode, target))
    assert pixels.shape == (*target, 3)
    assert pixels.dtype == np.uint8


def test_shortest_keeps_the_middle():
    pixels = to_pixels(thirds(), recipe("shortest", (30, 30)))
    assert (pixels == (0, 255, 0)).all()


def test_shortest_keeps_the_middle_of_a_tall_picture_too():
    pixels = to_pixels(thirds().transpose(Image.Transpose.ROTATE_90), recipe("shortest", (30, 30)))
    assert (pixels == (0, 255, 0)).all()


def test_squash_keeps_everything():
    pixels = to_pixels(thirds(), recipe("squash", (30, 30)))
    assert [tuple(pixels[15, x]) for x in (4, 15, 25)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_longest_keeps_everything_and_pads_with_the_fill_colour():
    pixels = to_pixels(thirds(), recipe("longest", (30, 30), fill=77))
    assert (pixels[:10] == 77).all()
    assert (pixels[20:] == 77).all()
    assert [tuple(pixels[15, x]) for x in (4, 15, 25)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_the_size_is_height_by_width():
    pixels = to_pixels(thirds(), recipe("squash", (10, 90)))
    assert pixels.shape == (10, 90, 3)
    assert tuple(pixels[5, 5]) == (255, 0, 0)


def test_interpolations_differ():
    image = photo(61, 47)
    bicubic, bilinear = (
        to_pixels(image, recipe("squash", interpolation=name)) for name in ("bicubic", "bilinear")
    )
    assert (bicubic != bilinear).any()


@pytest.mark.parametrize("mode", MODES)
def test_a_strip_of_pixels_costs_no_memory(mode):
    """Resized whole by its shorter side, this one would take 60 GB."""
    strip = Image.new("RGB", (400_000, 1), (9, 8, 7))
    strip.paste((1, 2, 3), (0, 0, 100_000, 1))
    strip.paste((1, 2, 3), (300_000, 0, 400_000, 1))
    pixels = to_pixels(strip, recipe(mode, (224, 224)))
    assert (pixels[:, 112] == (9, 8, 7)).all(axis=1).any()


def test_what_is_cut_off_an_elongated_picture_was_to_be_cropped_anyway():
    """Just under and just over the bound, the same middle gives nearly the same pixels."""
    strip = photo(5020, 100)
    cut = to_pixels(strip, recipe("shortest")).astype(int)
    whole = to_pixels(strip.crop((10, 0, 5010, 100)), recipe("shortest")).astype(int)
    assert np.abs(cut - whole).max() <= 1


def test_bytes_to_pixels_is_decoding_and_fitting():
    data = encoded(photo(300, 200), "PNG")
    limits = ImageSettings()
    assert (
        pixels_of(data, recipe("shortest"), limits)
        == to_pixels(decode_rgb(data, limits).rgb, recipe("shortest"))
    ).all()


def test_large_jpegs_are_decoded_at_a_scale_that_leaves_twice_the_model_size():
    data = encoded(photo(2000, 1500), "JPEG", quality=92)
    limits = ImageSettings()
    scaled = pixels_of(data, recipe("squash", (64, 64)), limits).astype(int)
    full = to_pixels(decode_rgb(data, limits).rgb, recipe("squash", (64, 64))).astype(int)
    assert np.abs(scaled - full).mean() < 1.5
