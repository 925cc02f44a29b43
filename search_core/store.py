"""The store seam: collections of points, whichever Qdrant holds them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from search_core.errors import ModelMismatchError, NothingPublishedError
from search_core.filters import Filter
from search_core.model import ModelSpec, another_version
from search_core.points import Batch, Hit, Point, Vectors

State = Literal["building", "ready"]


@dataclass(frozen=True)
class Collection:
    """What a store knows of one collection. `metadata` holds plain JSON values, `state` and `model` among them."""

    name: str
    count: int
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> State:
        """Whether its first index has finished."""
        return "ready" if self.metadata.get("state") == "ready" else "building"

    @property
    def spec(self) -> ModelSpec:
        """The model whose vectors it holds."""
        return ModelSpec.from_dict(self.metadata["model"])

    @property
    def fingerprint(self) -> str:
        """The fingerprint that was stamped on it when it was made."""
        return str(self.metadata["fingerprint"])

    def require(self, spec: ModelSpec) -> None:
        """Refuses to mix vectors of two models.

        Raises:
            ModelMismatchError: the collection was made by another model.
        """
        if self.fingerprint == spec.fingerprint:
            return
        if self.spec.name == spec.name:
            raise another_version(f"collection {self.name}", spec.name, self.fingerprint, spec)
        raise ModelMismatchError(
            f"collection {self.name} was made by model {self.spec.name} ({self.fingerprint}), "
            f"not by {spec.name} ({spec.fingerprint}): use --model {self.spec.name}, or --rebuild with the new model"
        )


@dataclass(frozen=True)
class Effort:
    """How hard one query looks: more finds more, slower. What is None is as the store has it."""

    hnsw_ef: int | None = None
    oversampling: float | None = None


USUAL = Effort()


class Store(Protocol):
    """One Qdrant: named collections, and aliases that readers use. Names are full names unless said otherwise.

    Every method raises StoreError (locked, unavailable) and, for a name that is not there, NotFoundError.
    """

    async def collections(self) -> list[Collection]:
        """All collections, oldest first."""

    async def describe(self, name: str) -> Collection:
        """One collection as it is now."""

    async def create(self, name: str, spec: ModelSpec, *, bulk: bool = False) -> None:
        """Makes an empty collection in state `building`, stamped with the model; does nothing if it is there.

        Its HNSW index waits for `optimize`, as a load is fastest without one; searches read every vector until then.
        With `bulk`, payload indexes may wait for it too: no facets until then, and filters read every payload.
        """

    async def annotate(self, name: str, values: Mapping[str, Any]) -> None:
        """Merges JSON values into the collection's metadata."""

    async def drop(self, name: str) -> None:
        """Deletes a collection and its points."""

    async def aliases(self) -> dict[str, str]:
        """Each alias and the collection that it names."""

    async def publish(self, alias: str, name: str) -> None:
        """Moves (or makes) an alias in one step; readers see the old collection or the new one, never neither."""

    async def upsert(self, name: str, batch: Batch) -> None:
        """Writes points; they are durable when this returns. Writing the same again changes nothing."""

    async def delete(self, name: str, ids: Sequence[str]) -> None:
        """Deletes points; ids that are not there are no error."""

    async def query(
        self,
        name: str,
        vector: Vectors,
        *,
        limit: int,
        offset: int = 0,
        where: Filter = (),
        exact: bool = False,
        min_score: float | None = None,
        with_vectors: bool = False,
        effort: Effort = USUAL,
    ) -> list[Hit]:
        """The points nearest to a float32 [dim] vector by cosine, best first, equal scores by id."""

    async def retrieve(self, name: str, ids: Sequence[str], *, with_vectors: bool = False) -> list[Point]:
        """The points of these ids that are there, in any order."""

    async def scroll(
        self,
        name: str,
        *,
        after: str | None = None,
        limit: int = 1000,
        where: Filter = (),
        fields: Sequence[str] | None = None,
        with_vectors: bool = False,
    ) -> tuple[list[Point], str | None]:
        """A page of points in order of id, and the id that the next page starts from (None at the end).

        `after` is what the page before returned; `fields` names the payload fields wanted, None for all.
        """

    async def count(self, name: str, where: Filter = ()) -> int:
        """How many points match, exactly."""

    async def facet(self, name: str, key: str, *, where: Filter = (), limit: int = 20) -> dict[str, int]:
        """The commonest values of a keyword field and how many points have them."""

    async def unindexed(self, name: str) -> int:
        """How many vectors are outside the HNSW index."""

    async def optimize(self, name: str) -> None:
        """Builds the HNSW index of what is outside it; may take long. Searching goes on meanwhile.

        Ends a load; one that was interrupted is ended by any later call. When it returns, the index was checked to
        hold every vector, but for those in parts too small for a graph.
        """

    async def close(self) -> None:
        """Releases what is held; the store is not usable afterwards."""


def new_collection_name(alias: str, spec: ModelSpec, now: float | None = None) -> str:
    """`<alias>__<fingerprint>__<UTC time>`, a name that sorts by time."""
    moment = time.time() if now is None else now
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(moment))
    return f"{alias}__{spec.fingerprint}__{stamp}{int(moment * 1000) % 1000:03d}"


def belongs_to(alias: str, name: str) -> bool:
    """Whether a collection of this name was made for this alias."""
    parts = name.rsplit("__", 2)
    return len(parts) == 3 and parts[0] == alias


async def published(store: Store, alias: str) -> Collection:
    """The collection that readers of `alias` see.

    Raises:
        NothingPublishedError: nothing is published under that name.
    """
    name = (await store.aliases()).get(alias)
    if name is None:
        raise NothingPublishedError(f"no collection {alias!r} yet: run `image-search index SOURCE` first")
    return await store.describe(name)


def new_metadata(spec: ModelSpec) -> dict[str, Any]:
    """What every new collection is stamped with."""
    return {
        "state": "building",
        "model": spec.to_dict(),
        "fingerprint": spec.fingerprint,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
