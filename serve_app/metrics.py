"""What a metrics server may ask of the servers, by way of Ray, which exports it on each node with `ray_` before it.

=========================================  ==============  ======================================================
metric                                     tags            meaning
=========================================  ==============  ======================================================
image_search_queries_total                 kind, outcome   searches: text, image, id, combined, or unknown where
                                                           it was refused before it was understood; `ok`,
                                                           `cancelled`, or the code of a problem
image_search_stage_seconds                 stage           encode, retrieve and total of answered searches
image_search_text_cache_total              result          texts looked up in the cache: hit, miss
image_search_batch_size                    modality        texts or pictures that went into one batch
image_search_collection_points                             pictures of the published collection
image_search_collection_quarantined                        pictures in its quarantine when its last run ended
image_search_collection_checked_timestamp_seconds          when that was, in seconds since 1970; a collection
                                                           that no run has noted that for: when it was published
=========================================  ==============  ======================================================

Serve adds the tags deployment, replica and application. A histogram keeps counts only: Ray makes its `_sum` of the
middles of its buckets. To count or observe costs 5 µs, a search 30. Where Ray is not connected, they count for nobody.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ray.serve.metrics import Counter, Gauge, Histogram

from serve_app.messages import CollectionInfo
from serve_app.visits import Visit

PREFIX: Final = "image_search_"
SECONDS: Final = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]
SIZES: Final = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]


class RequestMetrics:
    """What an API replica counts of its requests."""

    def __init__(self) -> None:
        self._queries = Counter(  # Ray declares tags as one
            PREFIX + "queries_total",
            "Searches.",
            ("kind", "outcome"),  # type: ignore[arg-type]
        )
        self._stages = Histogram(
            PREFIX + "stage_seconds", "Seconds of each stage of a search.", SECONDS, ("stage",)
        )
        self._cache = Counter(PREFIX + "text_cache_total", "Texts looked up in the cache.", ("result",))

    def count(self, visit: Visit) -> None:
        """Counts a request that has ended."""
        if visit.kind is not None:
            self._queries.inc(tags={"kind": visit.kind, "outcome": visit.outcome})
        for stage, milliseconds in visit.timings_ms.items():
            self._stages.observe(milliseconds / 1000, tags={"stage": stage})
        for result, texts in (("hit", visit.cache_hits), ("miss", visit.cache_misses)):
            if texts:  # Ray refuses to add nothing
                self._cache.inc(texts, tags={"result": result})


class BatchMetrics:
    """What an encoder replica counts of its batches."""

    def __init__(self, modality: str) -> None:
        self._sizes = Histogram(PREFIX + "batch_size", "Inputs of one batch.", SIZES, ("modality",))
        self._tags = {"modality": modality}

    def batch(self, inputs: int) -> None:
        """So many inputs have come together."""
        self._sizes.observe(inputs, tags=self._tags)


class CollectionMetrics:
    """What an API replica knows of the published collection."""

    def __init__(self) -> None:
        self._points = Gauge(PREFIX + "collection_points", "Pictures of the published collection.")
        self._quarantined = Gauge(PREFIX + "collection_quarantined", "Pictures in its quarantine.")
        self._checked = Gauge(
            PREFIX + "collection_checked_timestamp_seconds", "When the last run of it ended, since 1970."
        )

    def show(self, collection: CollectionInfo) -> None:
        """The collection as it is now."""
        self._points.set(collection.count)
        if collection.quarantined is not None:
            self._quarantined.set(collection.quarantined)
        checked = collection.checked or collection.published
        if checked is not None:
            self._checked.set(datetime.fromisoformat(checked).timestamp())
