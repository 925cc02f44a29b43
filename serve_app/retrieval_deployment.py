"""Retrieval as a deployment: which store its replicas ask, and what may change while they run."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from search_core.owner import find_owner
from search_core.settings import Settings
from search_core.store import Effort
from search_core.stores import open_store
from serve_app.logs import log_through_serve
from serve_app.retrieval import Retrieval


class RetrievalConfig(BaseModel):
    """The `user_config` of the retrieval deployment; what is None is as the settings have it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    collection: str | None = Field(None, description="the alias that is served as the published collection")
    hnsw_ef: int | None = Field(None, ge=1, description="candidates while HNSW is searched")
    oversampling: float | None = Field(
        None, ge=1, description="times more candidates than wanted that are rescored, of quantized vectors"
    )


class RetrievalReplica(Retrieval):
    """Retrieval from a Qdrant server, or from the actor of this Ray that holds the embedded store."""

    def __init__(self, settings: Settings) -> None:
        log_through_serve()
        self._published = settings.store.collection
        store = open_store(settings.store) if settings.store.qdrant_url else find_owner()
        super().__init__(store, self._published)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Takes the alias and the search parameters of the Serve config."""
        config = RetrievalConfig(**user_config)
        self.configure(config.collection or self._published, Effort(config.hnsw_ef, config.oversampling))
