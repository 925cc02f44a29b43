"""What the deployments say to each other. Plain values that pickle small; pictures travel compressed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from search_core.compose import Modality
from search_core.filters import Filter
from search_core.model import ModelSpec
from search_core.points import Payload, Vectors


@dataclass(frozen=True)
class Pin:
    """What a request is answered by: one collection, by its full name, and the model that it is stamped with.

    `alias` is the name by which readers ask for it, if it was asked for as the published one.
    """

    collection: str
    spec: ModelSpec
    alias: str | None = field(default=None, compare=False)


class Encoded(NamedTuple):
    """A vector, float32 [dim] with L2 norm 1, and the fingerprint of the model that made it."""

    vector: Vectors
    fingerprint: str


@dataclass(frozen=True)
class EncoderStatus:
    """What an encoder replica runs: fingerprints of its models, and where the one used last runs."""

    fingerprints: tuple[str, ...]
    device: str
    precision: str


@dataclass(frozen=True)
class TermVector:
    """One term of a query: a vector that an encoder made, or the id of an indexed picture."""

    kind: str
    modality: Modality
    weight: float
    vector: Vectors | None = None
    image_id: str | None = None


@dataclass(frozen=True)
class VectorQuery:
    """A query of one collection, by its full name, once its texts and pictures are encoded.

    `fingerprint` is of the model that encoded them, None where only ids are asked: a collection of another
    model refuses it, so that each query is answered by one model and one collection.
    """

    collection: str
    terms: tuple[TermVector, ...]
    fingerprint: str | None
    like: tuple[str, ...] = ()
    dislike: tuple[str, ...] = ()
    where: Filter = ()
    limit: int = 24
    offset: int = 0
    min_score: float | None = None
    explain: bool = False


@dataclass(frozen=True)
class FoundHit:
    """One found picture. `explanation` has an entry for each term; their contributions add up to the score."""

    id: str
    score: float
    payload: Payload
    explanation: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Found:
    """The answer of one collection to one query."""

    hits: list[FoundHit]
    collection: str
    model: str
    total: int


@dataclass(frozen=True)
class CollectionInfo:
    """A collection as the API shows it."""

    name: str
    count: int
    state: str
    model: str
    fingerprint: str
    dim: int
    aliases: list[str] = field(default_factory=list)
    created: str | None = None
    published: str | None = None
    checked: str | None = None
    """When the last index run of it ended, whether it changed anything or not."""
    quarantined: int | None = None
    """How many pictures were in its quarantine then."""
