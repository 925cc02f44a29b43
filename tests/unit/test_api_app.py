"""What the composition root makes of a Serve config, and the small parts of the server's start and end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve import Application
from ray.serve.schema import ServeDeploySchema

from cluster import serve_configs
from search_core.errors import UsageError
from search_core.model import resolve_model
from search_core.settings import ModelSettings, Settings
from serve_app.app import build_applications, search_app, ui_app
from serve_app.encoders import Batching
from serve_app.local_port import require_free_port
from serve_app.stopping import stop_on_signals

FAKE = Settings(model=ModelSettings(name="fake"))


def deployments(application: Application) -> dict[str, Any]:
    """All deployments of a bound graph by name."""
    found: dict[str, Any] = {}
    queue = [application]
    while queue:
        bound = queue.pop()._bound_deployment
        found[bound.name] = bound
        queue += [arg for arg in bound.init_args if isinstance(arg, Application)]
    return found


@pytest.fixture(params=serve_configs.NAMES)
def config(request: pytest.FixtureRequest) -> ServeDeploySchema:
    return serve_configs.load(request.param)


def test_each_config_that_is_shipped_has_a_name() -> None:
    folder = Path(serve_configs.__file__).parent
    assert {path.name for path in folder.glob("serve-*.yaml")} == {
        f"serve-{name}.yaml" for name in serve_configs.NAMES
    }


def test_a_config_names_applications_and_deployments_that_exist(config: ServeDeploySchema) -> None:
    targets = build_applications(FAKE, resolve_model("fake"), config)
    assert [(target.name, target.route_prefix) for target in targets] == [("search", "/api"), ("ui", "/")]
    for target, app in zip(targets, config.applications, strict=True):
        assert app.import_path in {"serve_app.app:search_app", "serve_app.app:ui_app"}
        assert {one.name for one in app.deployments} == deployments(target.target).keys()


def test_numbers_of_a_config_reach_the_deployments(config: ServeDeploySchema) -> None:
    targets = build_applications(FAKE, resolve_model("fake"), config)
    for target, app in zip(targets, config.applications, strict=True):
        made = deployments(target.target)
        for wanted in app.deployments:
            deployment = made[wanted.name]
            assert deployment.ray_actor_options["num_cpus"] == wanted.ray_actor_options.num_cpus
            assert deployment.max_ongoing_requests == wanted.max_ongoing_requests
            assert (deployment.user_config or {}) == (
                wanted.model_dump(exclude_unset=True).get("user_config") or {}
            )


def test_batches_can_fill_and_queues_say_when_to_come_back(config: ServeDeploySchema) -> None:
    for app in config.applications:
        for one in app.deployments:
            values = one.model_dump(exclude_unset=True)
            if "max_batch_size" in values.get("user_config", {}):
                assert one.max_ongoing_requests >= Batching(**values["user_config"]).max_batch_size
            if app.name == "search":
                assert values["max_queued_requests"] > 0


def test_one_page_replica_keeps_sessions_together(config: ServeDeploySchema) -> None:
    (page,) = next(app for app in config.applications if app.name == "ui").deployments
    assert page.num_replicas == 1


def test_all_replicas_of_the_local_config_leave_a_cpu_for_an_index_job() -> None:
    total = 0.0
    for app in serve_configs.load("local").applications:
        for one in app.deployments:
            values = one.model_dump(exclude_unset=True)
            most = values.get("autoscaling_config", {}).get("max_replicas") or values.get("num_replicas", 1)
            total += most * values["ray_actor_options"]["num_cpus"]
    assert total <= 1.0


@pytest.mark.parametrize(
    ("where", "name", "message"),
    [("applications", "nope", "application 'nope'"), ("deployments", "Nope", "unknown deployments: Nope")],
)
def test_a_config_with_unknown_names(where: str, name: str, message: str) -> None:
    config = serve_configs.load("local")
    (config.applications if where == "applications" else config.applications[0].deployments)[0].name = name
    with pytest.raises(UsageError, match=message):
        build_applications(FAKE, resolve_model("fake"), config)


def test_builders_for_serve_take_their_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_SEARCH_MODEL__NAME", "fake/32")
    made = deployments(search_app({}))
    assert made["TextEncoder"].init_args[0].dim == 32
    assert deployments(ui_app({"examples": ["a cat"]}))["Page"].init_args[1] == ["a cat"]


def test_the_config_is_plain_yaml_that_serve_understands() -> None:
    text = (Path(serve_configs.__file__).parent / "serve-local.yaml").read_text(encoding="utf-8")
    ServeDeploySchema.model_validate(json.loads(json.dumps(yaml.safe_load(text))))
    assert "HA_PROXY" not in text


def test_a_port_that_is_taken() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}"):
            require_free_port("127.0.0.1", port)
    require_free_port("127.0.0.1", port)
    with pytest.raises(UsageError, match="cannot listen"):
        require_free_port("192.0.2.99", port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_block_and_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as signals:
        os.kill(os.getpid(), number)
        signals.wait()
    assert signal.getsignal(number) == before


def test_a_second_signal_forces() -> None:
    program = """
import os, signal, time
from serve_app.stopping import stop_on_signals
with stop_on_signals():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    finally:
        print("stopping", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
"""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (130, "stopping\n")
    assert time.monotonic() - begun < 15


def test_importing_the_applications_starts_nothing() -> None:
    program = """
import sys
import serve_app.app, serve_app.server, cluster
import ray
assert not ray.is_initialized()
assert not {"torch", "gradio", "open_clip"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
