"""Several terms to one query vector: weights, centring, and terms that cancel each other."""

from __future__ import annotations

import numpy as np
import pytest

from search_core.compose import Means, WeightedVector, compose, parts
from search_core.errors import QueryError

SEED = 11


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


X, Y, Z = unit(1, 0, 0), unit(0, 1, 0), unit(0, 0, 1)
MEANS = Means(text=np.array([0.6, 0, 0], np.float32), image=np.array([0, 0, 0.6], np.float32))


@pytest.mark.parametrize("means", [None, MEANS])
@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_one_positive_term_stays_what_the_encoder_gave(means, modality, weight):
    vector = unit(0.2, -0.7, 0.5)
    assert (compose([WeightedVector(vector, modality, weight)], means) == vector).all()


def test_weights_are_shares():
    query = compose([WeightedVector(X, "text", 1.0), WeightedVector(Y, "image", 0.5)], None)
    np.testing.assert_allclose(query, unit(1, 0.5, 0), atol=1e-6)


def test_only_the_ratio_of_weights_counts():
    one = compose([WeightedVector(X, "text", 1.0), WeightedVector(Y, "image", 0.5)], MEANS)
    half = compose([WeightedVector(X, "text", 0.5), WeightedVector(Y, "image", 0.25)], MEANS)
    np.testing.assert_allclose(one, half, atol=1e-6)


def test_a_negative_weight_pushes_away():
    query = compose([WeightedVector(X, "text", 1.0), WeightedVector(unit(1, 1, 0), "text", -0.5)], None)
    assert query @ Y < 0 < query @ X


def test_a_single_negative_term_is_turned_round():
    np.testing.assert_allclose(compose([WeightedVector(X, "text", -1.0)], None), -X, atol=1e-6)


def test_a_term_of_weight_0_changes_nothing():
    with_it = compose([WeightedVector(X, "text", 1.0), WeightedVector(Y, "image", 0.0)], None)
    np.testing.assert_allclose(with_it, X, atol=1e-6)


def test_each_term_is_centred_on_its_own_modality():
    text, image = unit(0.8, 0.6, 0), unit(0, 0.6, 0.8)
    wanted = unit(*(text - MEANS.text)) + unit(*(image - MEANS.image))
    query = compose([WeightedVector(text, "text", 1.0), WeightedVector(image, "image", 1.0)], MEANS)
    np.testing.assert_allclose(query, wanted / np.linalg.norm(wanted), atol=1e-6)


def test_centring_removes_what_a_modality_has_in_common():
    """Without it the gap between texts and pictures rules: 'red' minus 'blue' would point at the texts' cone."""
    gap = np.array([3, 0, 0, 0], np.float32)
    red, blue = (unit(*(gap + np.eye(4, dtype=np.float32)[i])) for i in (1, 2))
    means = Means(text=(red + blue) / 2, image=np.zeros(4, np.float32))
    centred = compose([WeightedVector(red, "text", 1.0), WeightedVector(blue, "text", -0.5)], means)
    plain = compose([WeightedVector(red, "text", 1.0), WeightedVector(blue, "text", -0.5)], None)
    assert abs(centred[0]) < 1e-6 < abs(plain[0])
    assert centred[1] > 0 > centred[2]


def test_a_term_that_is_the_mean_itself_stays_usable():
    means = Means(text=X, image=Y)
    query = compose([WeightedVector(X, "text", 1.0), WeightedVector(Z, "image", 1.0)], means)
    assert np.isfinite(query).all()
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("means", [None, MEANS])
def test_terms_that_cancel_each_other_are_a_query_error(means):
    terms = [WeightedVector(X, "text", 0.7), WeightedVector(X, "text", -0.7)]
    with pytest.raises(QueryError, match="cancel"):
        compose(terms, means)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("means", [None, "random"])
def test_the_query_is_of_length_1_and_the_sum_of_its_parts(count, means):
    print(f"seed {SEED}")  # noqa: T201 - shown where the test fails
    rng = np.random.default_rng(SEED + count)
    if means:
        means = Means(*(0.1 * rng.normal(size=(2, 16))).astype(np.float32))
    terms = [
        WeightedVector(unit(*rng.normal(size=16)), rng.choice(["text", "image"]), float(rng.uniform(0.1, 1)))
        for _ in range(count)
    ]
    query, rows = compose(terms, means), parts(terms, means)
    assert query.dtype == np.float32
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)
    assert rows.shape == (count, 16)
    np.testing.assert_allclose(rows.sum(axis=0), query, atol=1e-6)
