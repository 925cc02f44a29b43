"""The Serve configs that are shipped: Ray and our own settings understand them, and they fit where they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ray.serve.schema import ServeDeploySchema

from cluster.serve_configs import NAMES, load
from search_core.errors import UsageError
from search_core.model import resolve_model
from search_core.settings import Settings
from serve_app.admission import ApiConfig
from serve_app.app import build_applications
from serve_app.encoders import Batching
from serve_app.retrieval_deployment import RetrievalConfig

USER_CONFIGS: dict[str, type[BaseModel]] = {
    "Api": ApiConfig,
    "TextEncoder": Batching,
    "ImageEncoder": Batching,
    "Retrieval": RetrievalConfig,
}


def deployments(config: ServeDeploySchema) -> dict[str, dict[str, Any]]:
    return {
        one.name: one.model_dump(exclude_unset=True) for app in config.applications for one in app.deployments
    }


@pytest.mark.parametrize("name", NAMES)
def test_builds_and_configures_each_deployment(name: str) -> None:
    config = load(name)
    assert [one.name for one in build_applications(Settings(), resolve_model("fake"), config)] == [
        "search",
        "ui",
    ]
    for deployment, options in deployments(config).items():
        if deployment in USER_CONFIGS:
            USER_CONFIGS[deployment](**options.get("user_config", {}))


@pytest.mark.parametrize("name", NAMES)
def test_queues_have_room_for_what_scales(name: str) -> None:
    """Batches can fill, and a replica is offered more than its target before the autoscaler acts."""
    for deployment, options in deployments(load(name)).items():
        most = options["max_ongoing_requests"]
        if deployment in {"TextEncoder", "ImageEncoder"}:
            assert most >= 2 * options["user_config"]["max_batch_size"]
        if "autoscaling_config" in options:
            assert most > options["autoscaling_config"]["target_ongoing_requests"]


def test_one_machine_of_two_cores_has_a_core_left() -> None:
    claims = [options["ray_actor_options"]["num_cpus"] for options in deployments(load("local")).values()]
    scaled = [
        options["ray_actor_options"]["num_cpus"]
        for options in deployments(load("local")).values()
        if "autoscaling_config" in options
    ]
    assert sum(claims) + sum(scaled) <= 1


def test_half_of_the_gpu_is_left_for_an_index_run() -> None:
    claims = 0.0
    for options in deployments(load("gpu")).values():
        replicas = options.get("autoscaling_config", {}).get("max_replicas", 1)
        claims += replicas * options["ray_actor_options"].get("num_gpus", 0)
    assert 0 < claims <= 0.5


def test_on_a_cluster_a_replica_of_each_stage_may_go() -> None:
    for name, options in deployments(load("cluster")).items():
        if name != "Page":
            assert options["autoscaling_config"]["min_replicas"] >= 2
            assert options["max_surge_percent"] > 0


def test_another_file(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    with pytest.raises(UsageError, match="no Serve config"):
        load(str(path))
    path.write_text("applications: 3")
    with pytest.raises(UsageError, match="is no Serve config"):
        load(str(path))
    path.write_text("applications: []")
    assert load(str(path)).applications == []
