"""Which store the settings ask for."""

from __future__ import annotations

from search_core.settings import StoreSettings
from search_core.store import Store


def open_store(settings: StoreSettings) -> Store:
    """The store in this process: a Qdrant server's where a URL is set, else the embedded one."""
    if settings.qdrant_url:
        from search_core.qdrant import QdrantStore

        return QdrantStore(settings)
    from search_core.edge import EdgeStore

    return EdgeStore(settings)
