"""Several terms to one query vector.

Text and picture vectors live in two separate cones of CLIP space (Liang et al. 2022, "Mind the Gap"), so a
plain sum is ruled by the gap between the cones. Each term is therefore centred on the mean of its own
modality before the terms are summed; one positive term alone stays what the encoder gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from search_core.errors import QueryError
from search_core.points import Vectors

Modality = Literal["text", "image"]
SMALLEST_NORM = 1e-6


@dataclass(frozen=True)
class WeightedVector:
    """A term's vector, float32 [dim] with L2 norm 1, where it comes from and its weight in -1..1."""

    vector: Vectors
    modality: Modality
    weight: float


@dataclass(frozen=True)
class Means:
    """The mean vector of each modality, float32 [dim], not of norm 1."""

    text: Vectors
    image: Vectors

    def of(self, modality: Modality) -> Vectors:
        """The mean of one modality."""
        return self.text if modality == "text" else self.image


def compose(terms: Sequence[WeightedVector], means: Means | None) -> Vectors:
    """The query vector of the terms: float32 [dim], L2 norm 1.

    Raises:
        QueryError: the terms cancel each other out.
    """
    if len(terms) == 1 and terms[0].weight > 0:
        return terms[0].vector
    query: Vectors = parts(terms, means).sum(axis=0, dtype=np.float32)
    return query


def parts(terms: Sequence[WeightedVector], means: Means | None) -> Vectors:
    """What each term adds to the query vector: float32 [n, dim], whose rows add up to what `compose` gives.

    Raises:
        QueryError: the terms cancel each other out.
    """
    if len(terms) == 1 and terms[0].weight > 0:
        return terms[0].vector[np.newaxis]
    weighted = np.stack([term.weight * _centred(term, means) for term in terms]).astype(np.float32)
    norm = float(np.linalg.norm(weighted.sum(axis=0)))
    if norm < SMALLEST_NORM:
        raise QueryError("the terms cancel each other out: change a weight")
    scaled: Vectors = weighted / np.float32(norm)
    return scaled


def _centred(term: WeightedVector, means: Means | None) -> Vectors:
    if means is None:
        return term.vector
    shifted = term.vector - means.of(term.modality)
    norm = float(np.linalg.norm(shifted))
    return term.vector if norm < SMALLEST_NORM else (shifted / norm).astype(np.float32)
