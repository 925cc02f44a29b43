"""Points: a picture's id, vector and payload, as stores hold them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Payload = dict[str, Any]

POINT_NAMESPACE = uuid.UUID("8f1f5a0e-6f0c-5e0b-9a53-0d7f6f3d1a11")
FACET_FIELDS = ("folder", "format", "orientation")
INTEGER_FIELDS = ("width", "height", "bytes")
KEYWORD_FIELDS = (*FACET_FIELDS, "uri", "file_name", "content_hash")


def point_id(uri: str) -> str:
    """The id of the picture at `uri`: always the same, so that writing twice is harmless."""
    return str(uuid.uuid5(POINT_NAMESPACE, uri))


@dataclass(frozen=True)
class Batch:
    """Points to write: row i of each field belongs together. `vectors` is float32 [n, dim], L2 norm 1."""

    ids: Sequence[str]
    vectors: Vectors
    payloads: Sequence[Payload]


@dataclass(frozen=True)
class Point:
    """A stored point. `vector` is float32 [dim], L2 norm 1, or None where it was not asked for."""

    id: str
    payload: Payload
    vector: Vectors | None = None


@dataclass(frozen=True)
class Hit:
    """A found point and its score: the cosine between the query vector and the point's."""

    id: str
    score: float
    payload: Payload
    vector: Vectors | None = None
