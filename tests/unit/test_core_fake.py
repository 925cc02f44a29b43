"""The fake encoder: knows colours, and gives the same vectors on every machine and at any time."""

from __future__ import annotations

import numpy as np
import pytest

from search_core.encoder import load_encoder
from search_core.fake import FakeEncoder
from search_core.model import resolve_model
from search_core.preprocess import pixels_of
from search_core.settings import ImageSettings, ModelSettings
from tests.fixtures.pictures import COLOURS, photo, plain, quarters

ENCODER = FakeEncoder(resolve_model("fake"))
GOLDEN_RED = [0.120804, -0.021781, -0.222078, -0.057995, -0.135829, 0.087596]
GOLDEN_PHRASE = [0.055107, -0.110716, -0.03602, 0.011789, 0.092252, -0.063209]
GOLDEN_QUARTERS = [0.02919, 0.089405, 0.028987, -0.136601, -0.099252, -0.038707]


def vectors_of(*files: bytes) -> np.ndarray:
    return ENCODER.encode_pixels(
        np.stack([pixels_of(data, ENCODER.spec.preprocess, ImageSettings()) for data in files])
    )


@pytest.mark.parametrize("colour", COLOURS)
def test_a_colour_word_finds_its_colour(colour):
    scores = vectors_of(*map(plain, COLOURS)) @ ENCODER.encode_texts([f"a {colour} picture"])[0]
    assert list(COLOURS)[int(scores.argmax())] == colour


def test_golden_vectors():
    pixels = np.asarray(quarters(32, 32))[np.newaxis]
    np.testing.assert_allclose(ENCODER.encode_texts(["red"])[0, :6], GOLDEN_RED, atol=2e-6)
    np.testing.assert_allclose(
        ENCODER.encode_texts(["Two dogs  on Green grass"])[0, :6], GOLDEN_PHRASE, atol=2e-6
    )
    np.testing.assert_allclose(ENCODER.encode_pixels(pixels)[0, :6], GOLDEN_QUARTERS, atol=2e-6)


@pytest.mark.parametrize("name", ["fake", "fake/8", "fake/512"])
def test_vectors_are_float32_of_length_1_in_the_dimension_of_the_spec(name):
    encoder = FakeEncoder(resolve_model(name))
    texts = encoder.encode_texts(["red", "", "a dog"])
    pixels = encoder.encode_pixels(np.asarray(photo(32, 32))[np.newaxis].repeat(4, axis=0))
    for vectors, count in ((texts, 3), (pixels, 4)):
        assert vectors.dtype == np.float32
        assert vectors.shape == (count, encoder.spec.dim)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_nothing_gives_no_rows():
    assert ENCODER.encode_texts([]).shape == (0, 64)
    assert ENCODER.encode_pixels(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 64)


def test_a_row_does_not_depend_on_its_batch():
    pixels = np.stack([np.asarray(photo(32, 32, seed)) for seed in range(5)])
    together = ENCODER.encode_pixels(pixels)
    alone = np.concatenate([ENCODER.encode_pixels(pixels[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_different_words_and_different_textures_stay_apart():
    texts = ENCODER.encode_texts(["a red dog", "a red cat"])
    assert texts[0] @ texts[1] < 0.9999
    pixels = np.asarray(quarters(32, 32))
    flipped = ENCODER.encode_pixels(np.stack([pixels, pixels[::-1]]))
    assert flipped[0] @ flipped[1] < 0.9999


def test_it_is_chosen_by_name():
    assert isinstance(load_encoder(resolve_model("fake/16"), ModelSettings(name="fake/16")), FakeEncoder)
