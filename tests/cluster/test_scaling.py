"""Each stage grows by its own load, no other does, and all shrink again; no request fails while they do."""

from __future__ import annotations

import pytest

from tests.fixtures.load import Ask, load
from tests.fixtures.queries import by_id, by_picture, by_text, of_all_kinds, red
from tests.fixtures.rehearsal import STAGES, Rehearsal

CLIENTS = 16
SLOW_S = 0.3


def grows_alone(rehearsal: Rehearsal, stage: str, ask: Ask) -> None:
    cluster = rehearsal.cluster
    cluster.until(lambda now: all(now.count(one) == 1 for one in STAGES) and not now.stopping)
    most = dict.fromkeys(STAGES, 1)
    with load(cluster.urls, CLIENTS, ask, check=red(rehearsal.ids["red"])) as running:
        while most[stage] < 2:
            now = cluster.details()
            most = {one: max(most[one], now.count(one)) for one in STAGES}
            running.until_answered(10)
        running.until_answered(100)  # of which some by the new replica
        most = {one: max(most[one], cluster.details().count(one)) for one in STAGES}
    assert {one for one in STAGES if most[one] > 1} == {stage}, most


def test_pictures_grow_the_image_encoders(rehearsal: Rehearsal) -> None:
    grows_alone(rehearsal, "ImageEncoder", by_picture)


@pytest.mark.long
def test_texts_grow_the_text_encoders(rehearsal: Rehearsal) -> None:
    grows_alone(rehearsal, "TextEncoder", by_text)


@pytest.mark.long
def test_a_slow_store_grows_retrieval(rehearsal: Rehearsal) -> None:
    rehearsal.store.delay_s = SLOW_S
    try:
        grows_alone(rehearsal, "Retrieval", by_id(rehearsal.ids["red"]))
    finally:
        rehearsal.store.delay_s = 0.0


def test_all_shrink_again_and_no_request_fails(rehearsal: Rehearsal) -> None:
    ids = rehearsal.ids["red"]
    with load(rehearsal.cluster.urls, 1, of_all_kinds(ids), check=red(ids)) as running:
        rehearsal.cluster.until(lambda now: now.counts() == {**dict.fromkeys(STAGES, 1), "Page": 1})
        running.until_answered(10)
    assert not running.again, running.again
