"""Replicas, a proxy and a machine are killed under load: nobody is told more than to come back in a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.fixtures.load import Load, load
from tests.fixtures.processes import until
from tests.fixtures.queries import of_all_kinds, red
from tests.fixtures.rehearsal import STAGES, Rehearsal

CLIENTS = 9
WORKERS = (1, 2)


@pytest.fixture
def doubled(rehearsal: Rehearsal) -> Iterator[Rehearsal]:
    """Two replicas of each stage."""
    config = rehearsal.changed()
    for deployment in config["applications"][0]["deployments"]:
        deployment["autoscaling_config"].update(min_replicas=2, max_replicas=2)
    rehearsal.cluster.deploy(config)
    rehearsal.cluster.until(lambda now: all(now.count(stage) == 2 for stage in STAGES) and not now.stopping)
    yield rehearsal
    rehearsal.cluster.deploy(rehearsal.config)
    rehearsal.cluster.until_running()


def loaded(rehearsal: Rehearsal) -> Iterator[Load]:
    """Queries of all kinds at all nodes."""
    ids = rehearsal.ids["red"]
    return load(rehearsal.cluster.urls, CLIENTS, of_all_kinds(ids), check=red(ids))


def strike(rehearsal: Rehearsal, running: Load, blow: Callable[[], object]) -> None:
    """Kills something while requests are answered, and waits until all is there again."""
    running.until_answered(20)
    before = rehearsal.cluster.details()
    blow()
    running.until_answered(20)
    rehearsal.cluster.until(
        lambda now: all(now.count(stage) == 2 for stage in STAGES) and now.replicas != before.replicas
    )
    running.until_answered(20)


@pytest.mark.parametrize(
    "stage",
    [
        "ImageEncoder",
        *(pytest.param(one, marks=pytest.mark.long) for one in ("TextEncoder", "Retrieval")),
    ],
)
def test_a_replica_is_lost_and_nobody_notices(doubled: Rehearsal, stage: str) -> None:
    with loaded(doubled) as running:
        strike(doubled, running, lambda: doubled.cluster.kill_replica(stage))
    assert not running.again, running.again


@pytest.mark.long
def test_a_replica_of_the_api_is_lost(doubled: Rehearsal) -> None:
    with loaded(doubled) as running:
        strike(doubled, running, lambda: doubled.cluster.kill_replica("Api"))
    assert sum(running.again.values()) <= CLIENTS, running.again


@pytest.mark.long
def test_the_proxy_of_the_head_is_lost(doubled: Rehearsal) -> None:
    url = doubled.cluster.urls[0]

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/api/health", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    with loaded(doubled) as running:
        running.until_answered(20)
        doubled.cluster.kill_proxy(0)
        running.until_answered(20)
        until(answers)
    assert sum(running.again.values()) <= CLIENTS, running.again


def test_a_machine_is_lost(doubled: Rehearsal) -> None:
    with loaded(doubled) as running:
        strike(doubled, running, lambda: doubled.cluster.kill_worker(1))
        doubled.cluster.add_worker(1)
    assert sum(running.again.values()) <= CLIENTS, running.again
