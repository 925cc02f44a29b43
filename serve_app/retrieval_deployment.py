"""Retrieval as a deployment: which store its replicas ask."""

from __future__ import annotations

from search_core.owner import find_owner
from search_core.settings import Settings
from search_core.stores import open_store
from serve_app.retrieval import Retrieval


class RetrievalReplica(Retrieval):
    """Retrieval from a Qdrant server, or from the actor of this Ray that holds the embedded store."""

    def __init__(self, settings: Settings) -> None:
        store = open_store(settings.store) if settings.store.qdrant_url else find_owner()
        super().__init__(store, settings.store.collection)
