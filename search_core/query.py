"""The search request and its answer: the HTTP contract, used unchanged by page, command line and deployments."""

from __future__ import annotations

import base64
import binascii
import math
import uuid
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_TEXT_CHARS = 2_000
MAX_TERMS = 32
MAX_FEEDBACK = 256
MAX_LIMIT = 1_000
MAX_DEPTH = 10_000
DEFAULT_LIMIT = 24
FEEDBACK_WEIGHT = 0.5


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _point_id(value: str) -> str:
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise ValueError("is no image id (a UUID, as search results carry it)") from None


Finite = Annotated[float, AfterValidator(_finite)]
PointId = Annotated[str, AfterValidator(_point_id)]


class Model(BaseModel):
    """Closed to fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Term(Model):
    """One part of a query: exactly one of a text, a picture, its URL, or the id of an indexed picture."""

    text: str | None = Field(None, max_length=MAX_TEXT_CHARS, description="words that describe the picture")
    image_base64: str | None = Field(None, description="a compressed picture file, base64", repr=False)
    image_url: str | None = Field(
        None, max_length=4_096, description="http(s) URL of a picture; fetched once"
    )
    image_id: PointId | None = Field(None, description="id of an indexed picture")
    weight: Annotated[Finite, Field(ge=-1.0, le=1.0)] = Field(
        1.0, description="share of this term, from -1 to 1; below 0 it pushes results away"
    )

    @field_validator("text")
    @classmethod
    def _not_blank(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("must not be blank")
        return text

    @field_validator("image_base64")
    @classmethod
    def _is_base64(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                raise ValueError("is not valid base64") from None
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [self.text, self.image_base64, self.image_url, self.image_id]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("give exactly one of text, image_base64, image_url and image_id")
        return self


class SearchRequest(Model):
    """A query: terms, feedback, filter and what part of the answer to return."""

    terms: list[Term] = Field(default_factory=list, max_length=MAX_TERMS)
    like: list[PointId] = Field(
        default_factory=list, max_length=MAX_FEEDBACK, description="ids that are right"
    )
    dislike: list[PointId] = Field(
        default_factory=list, max_length=MAX_FEEDBACK, description="ids that are wrong"
    )
    filter: dict[str, Any] = Field(
        default_factory=dict,
        description="payload field to value, list of values, or bounds (gt, gte, lt, lte)",
        examples=[{"orientation": "landscape", "width": {"gte": 640}}],
    )
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    offset: int = Field(0, ge=0)
    min_score: Finite | None = Field(None, description="leave out hits that score less")
    min_relevance: Finite | None = Field(None, description="reserved; relevance is not calibrated yet")
    collapse_duplicates: bool = Field(False, description="reserved; near-duplicates are not collapsed yet")
    explain: bool = Field(False, description="say what each term contributed to each hit")
    collection: str | None = Field(
        None, min_length=1, max_length=200, description="default: the published one"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.offset + self.limit > MAX_DEPTH:
            raise ValueError(f"offset + limit must not exceed {MAX_DEPTH}")
        if not self.terms and not self.like:
            raise ValueError("give at least one term or one liked id")
        if all(term.weight == 0 for term in self.terms) and not self.like:
            raise ValueError("at least one term needs a weight other than 0")
        return self


class HitModel(Model):
    """One found picture."""

    id: str
    score: float = Field(description="cosine between the query's vector and the picture's")
    relevance: float | None = Field(None, description="null until calibrated")
    uri: str
    payload: dict[str, Any]
    image_url: str
    thumbnail_url: str
    explanation: list[dict[str, Any]] | None = None


class SearchResponse(Model):
    """The answer to a `SearchRequest`."""

    hits: list[HitModel]
    total_indexed: int
    model: str
    collection: str
    timings_ms: dict[str, float]
