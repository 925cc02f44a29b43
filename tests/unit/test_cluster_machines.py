"""The image, the compose file and `ray up`: well formed, of the pinned versions, with files and settings that exist."""

from __future__ import annotations

import copy
import fnmatch
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start as ray_start
from ray.serve.scripts import deploy as serve_deploy

from cli.main import cli
from search_core.settings import load_settings
from tests.fixtures.manifests import KUBERNETES, ROOT
from tools.packed import COMPOSE_SCHEMA, HADOLINT
from tools.settings_table import settings_table

CLUSTER = ROOT / "cluster"
DOCKERFILE = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((CLUSTER / "compose.yaml").read_text(encoding="utf-8"))
RAY_UP = yaml.safe_load((CLUSTER / "ray-up.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
IMAGES = {
    f"{one['newName'].removeprefix('registry.example.com/')}:{one['newTag']}"
    for one in yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text(encoding="utf-8"))[
        "images"
    ]
}


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = HADOLINT.find(ROOT)
    assert hadolint is not None, "run `python -m tools.programs unit`"
    done = subprocess.run(
        [hadolint, "--failure-threshold", "style", CLUSTER / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_image_runs_as_no_root_and_says_how_it_is() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.+)$", last, re.MULTILINE) == ["1000:1000"]
    assert re.search(r"--uid 1000 .* ray", last)
    (check,) = re.findall(r"HEALTHCHECK .*?CMD (\[.+?\])$", last, re.MULTILINE | re.DOTALL)
    assert json.loads(check)[-1].endswith(":8000/api/ready")
    (command,) = re.findall(r"^CMD (.+)$", last, re.MULTILINE)
    program, name = json.loads(command)
    assert (
        program in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    )
    assert name in cli.commands


def test_the_image_has_the_settings_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    given = re.findall(r"(IMAGE_SEARCH_\w+)=(\S+)", DOCKERFILE)
    assert given
    for name, value in given:
        assert f"`{name}`" in settings_table()
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.serve.host == "0.0.0.0"
    (volume,) = re.findall(r"^VOLUME (.+)$", DOCKERFILE, re.MULTILINE)
    assert str(settings.media_root).startswith(f"{volume}/")


def copied() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_the_image_is_made_of_files_that_the_build_is_given() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    assert set(copied()) == kept
    assert all((ROOT / name).exists() for name in kept)
    assert "*" in rules


def test_the_image_has_all_packages_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    wanted = {name for name in packages if any(fnmatch.fnmatch(name, one) for one in patterns)}
    assert wanted <= set(copied())
    assert {project["project"]["readme"], "constraints.txt", "pyproject.toml"} <= set(copied())


def test_the_compose_file_is_one() -> None:
    schema = COMPOSE_SCHEMA.find(ROOT)
    assert schema is not None, "run `python -m tools.programs unit`"
    known = json.loads(schema.read_text(encoding="utf-8"))
    known["definitions"]["secret"]["properties"]["environment"] = {"type": "string"}  # newer than the package
    jsonschema.Draft201909Validator(known).validate(COMPOSE)


def test_images_of_the_compose_file_are_those_of_kubernetes() -> None:
    found = {one["image"] for one in SERVICES.values()}
    watching = {image for image in found if image.startswith(("prom/", "grafana/"))}
    assert found - watching <= IMAGES
    assert all(re.fullmatch(r"\S+:v?\d+\.\d+\.\d+", image) for image in watching)


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """(source, target) of a service's volumes; a variable in the source has its default."""
    found = []
    for volume in service.get("volumes", []):
        volume = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume)
        source, target = volume.split(":")[:2]
        found.append((source, target))
    return found


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_mounts_what_exists(name: str) -> None:
    for source, target in mounts(SERVICES[name]):
        if not source.startswith("."):
            assert source in COMPOSE["volumes"], source
            continue
        path = (CLUSTER / source).resolve()
        assert path.exists(), source
        assert not Path(target).suffix or path.suffix == Path(target).suffix


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_open_to_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("${BIND:-127.0.0.1}:"), port


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_says_how_it_is_and_waits_for_those_that_do(name: str) -> None:
    service = SERVICES[name]
    assert "test" in service["healthcheck"] or name in {"deploy", "index"}
    for other, wait in service.get("depends_on", {}).items():
        assert wait == {"condition": "service_healthy"}
        assert "test" in SERVICES[other]["healthcheck"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_known_settings_and_no_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"KEY|TOKEN|PASSWORD", variable):
            assert re.fullmatch(r"\$\{\w+:\?.+\}", value), variable
        if variable.startswith("IMAGE_SEARCH_"):
            assert f"`{variable}`" in settings_table()
            monkeypatch.setenv(variable, value)
    load_settings()


def test_secrets_in_files_come_from_those_in_variables() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", json.dumps(COMPOSE)))
    assert {one["environment"] for one in COMPOSE["secrets"].values()} <= needed
    assert {name for one in SERVICES.values() for name in one.get("secrets", [])} == set(COMPOSE["secrets"])


def test_what_the_image_owns_can_be_a_volume() -> None:
    (owned,) = re.findall(r"--group ray (.+?)$", DOCKERFILE, re.MULTILINE)
    own = [one for one in SERVICES.values() if one["image"].startswith("image-search:")]
    volumes = {target for one in own for source, target in mounts(one) if source in COMPOSE["volumes"]}
    assert volumes == set(owned.split())


def test_secrets_of_the_compose_file_are_made_as_its_head_says() -> None:
    text = (CLUSTER / "compose.yaml").read_text(encoding="utf-8")
    head = text.partition("\nx-ray:")[0]
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    assert set(re.findall(r"([A-Z_]+)=%s", head)) == needed
    (made,) = re.findall(r"printf .*? > \.env", head)
    assert made in (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", "cluster/.env"], cwd=ROOT, capture_output=True, check=False
    )
    assert ignored.returncode == 0


def accepted(words: list[str]) -> None:
    """Ray, Serve and our own command know what they are called with."""
    if words[:2] == ["ray", "start"]:
        ray_start.make_context("start", words[2:]).close()
    elif words[:2] == ["serve", "deploy"]:
        config = [str(CLUSTER / "serve-local.yaml") if word == "/serve.yaml" else word for word in words[2:]]
        serve_deploy.make_context("deploy", config).close()
    else:
        assert words[0] == "image-search"
        cli.commands[words[1]].make_context(words[1], words[2:]).close()


@pytest.mark.parametrize("name", [name for name in SERVICES if "command" in SERVICES[name]])
def test_a_service_runs_a_command_that_there_is(name: str) -> None:
    accepted(SERVICES[name]["command"])


def test_nodes_of_the_compose_file_are_one_cluster() -> None:
    head, worker = (SERVICES[name]["command"] for name in ("ray-head", "ray-worker"))
    assert "--head" in head
    port = next(word for word in head if word.startswith("--port=")).removeprefix("--port=")
    assert f"--address=ray-head:{port}" in worker
    assert "http://ray-head:8265" in SERVICES["deploy"]["command"]
    for name in ("ray-head", "ray-worker", "deploy", "index"):
        assert SERVICES[name]["environment"]["RAY_AUTH_MODE"] == "token"
        assert SERVICES[name]["env_file"] == "./proxy.env"


def test_ray_up_is_configured_as_ray_wants_it() -> None:
    config = prepare_config(copy.deepcopy(RAY_UP))
    validate_config(config)
    (kind,) = config["available_node_types"].values()
    assert kind["max_workers"] == len(RAY_UP["provider"]["worker_ips"])


@pytest.mark.parametrize("commands", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_ray_up_starts_nodes_with_settings_and_token(commands: str) -> None:
    stop, line = RAY_UP[commands]
    assert stop.endswith("bin/ray stop")
    steps = [shlex.split(step) for step in line.replace("$RAY_HEAD_IP", "10.0.0.1").split("&&")]
    assert steps[0] == [".", "~/image-search-node.env"]
    program, *words = steps[-1]
    assert program.endswith("/.venv/bin/ray")
    accepted(["ray", *words])
    head = (CLUSTER / "ray-up.yaml").read_text(encoding="utf-8").partition("cluster_name")[0]
    assert "RAY_AUTH_MODE=token" in head
    for variable in re.findall(r"IMAGE_SEARCH_\w+", head):
        assert f"`{variable}`" in settings_table()


def test_proxy_settings_reach_a_shell_whole(tmp_path: Path) -> None:
    """The line that `ray up` and the page have for it, run by sh."""
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    (of_page,) = re.findall(r"^eval (.+)$", page, re.MULTILINE)
    (of_ray_up,) = (
        re.findall(r"sed -n .+(?=\) >)", line) for line in RAY_UP["setup_commands"] if "sed -n" in line
    )
    script = of_ray_up[0].replace("~/image-search/", "")
    assert f'"$({script})"' == of_page
    (tmp_path / "node.env").write_text(
        subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    )
    printed = subprocess.run(
        ["sh", "-c", ". ./node.env && env"], cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    lines = (CLUSTER / "proxy.env").read_text(encoding="utf-8").splitlines()
    wanted = {line for line in lines if line and not line.startswith("#")}
    assert wanted <= set(printed)
