"""New code, a new collection and a new model roll in under load without a failed request; what is sick does not."""

from __future__ import annotations

from typing import Any

import httpx

from tests.cluster.conftest import Rehearsal
from tests.fixtures.load import load
from tests.fixtures.queries import of_all_kinds, red

CLIENTS = 6


def status(rehearsal: Rehearsal) -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(
        f"{rehearsal.cluster.urls[0]}/api/status", timeout=60, trust_env=False
    ).json()
    return body


def deploy_code(rehearsal: Rehearsal, name: str) -> None:
    config = rehearsal.changed()
    config["applications"][0]["import_path"] = f"tests.fixtures.other_code:{name}"
    rehearsal.cluster.deploy(config)


def test_new_code_rolls_in_and_sick_code_does_not(rehearsal: Rehearsal) -> None:
    cluster, ids = rehearsal.cluster, rehearsal.ids["red"]
    old = {one.id for one in cluster.details().replicas if one.deployment == "TextEncoder"}
    with load(cluster.urls, CLIENTS, of_all_kinds(ids), check=red(ids)) as running:
        running.until_answered(20)
        deploy_code(rehearsal, "new_app")
        cluster.until(
            lambda now: (
                now.applications["search"] == "RUNNING"
                and now.count("TextEncoder") > 0
                and not now.stopping
                and not old & {one.id for one in now.replicas}
            )
        )
        assert status(rehearsal)["encoders"]["text"]["device"] == "new"
        running.until_answered(20)
        deploy_code(rehearsal, "sick_app")
        cluster.until(lambda now: now.applications["search"] in {"DEPLOY_FAILED", "UNHEALTHY"})
        running.until_answered(20)
        assert status(rehearsal)["encoders"]["text"]["device"] == "new"
        cluster.deploy(rehearsal.config)
        cluster.until_running()
        running.until_answered(20)
