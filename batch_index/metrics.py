"""What a metrics server may ask of a run: counters and gauges by way of Ray, which exports them on each node.

====================================  =====================  =====================================================
metric                                tags                   meaning
====================================  =====================  =====================================================
image_search_index_pictures_total     collection, stage      pictures that a stage (prepare, embed, write) has done
image_search_index_seconds_total      collection, stage      seconds of work in a stage, summed over its workers
image_search_index_outcomes_total     collection, outcome    pictures acknowledged: added, updated, moved,
                                                             quarantined
image_search_index_in_flight          collection             pictures handed out and not acknowledged
image_search_index_remaining          collection             pictures of the plan that are not acknowledged
====================================  =====================  =====================================================

Where Ray is not connected they count for nobody.
"""

from __future__ import annotations

from typing import Final

from ray.util.metrics import Counter, Gauge

PREFIX: Final = "image_search_index_"


class IndexMetrics:
    """The metrics of one run, as one of its processes sees them."""

    def __init__(self, collection: str) -> None:
        self._pictures = _counter("pictures_total", "Pictures that a stage has done.", collection, "stage")
        self._seconds = _counter("seconds_total", "Seconds of work in a stage.", collection, "stage")
        self._outcomes = _counter("outcomes_total", "Pictures acknowledged.", collection, "outcome")
        self._in_flight = _gauge("in_flight", "Pictures handed out and not acknowledged.", collection)
        self._remaining = _gauge("remaining", "Pictures of the plan not acknowledged.", collection)

    def stage(self, name: str, pictures: int, seconds: float) -> None:
        """A stage has done so many pictures in so many seconds."""
        _add(self._pictures, pictures, "stage", name)
        _add(self._seconds, seconds, "stage", name)

    def outcome(self, name: str, pictures: int) -> None:
        """So many pictures came out so."""
        _add(self._outcomes, pictures, "outcome", name)

    def in_flight(self, pictures: int) -> None:
        """So many are handed out now."""
        self._in_flight.set(pictures)

    def remaining(self, pictures: int) -> None:
        """So many are still to do."""
        self._remaining.set(pictures)


def _counter(name: str, meaning: str, collection: str, tag: str) -> Counter:
    counter = Counter(PREFIX + name, meaning, tag_keys=("collection", tag))
    counter.set_default_tags({"collection": collection})
    return counter


def _gauge(name: str, meaning: str, collection: str) -> Gauge:
    gauge = Gauge(PREFIX + name, meaning, tag_keys=("collection",))
    gauge.set_default_tags({"collection": collection})
    return gauge


def _add(counter: Counter, value: float, tag: str, name: str) -> None:
    if value > 0:  # Ray refuses to add nothing
        counter.inc(value, tags={tag: name})
