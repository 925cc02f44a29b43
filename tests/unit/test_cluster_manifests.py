"""The rendered manifests are what Kubernetes and KubeRay accept, with each version once, no secret and known settings."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator

import jsonschema
import kubernetes_validate
import pytest
import yaml

from search_core.settings import load_settings
from tests.fixtures import kuberay
from tests.fixtures.manifests import (
    KUBERNETES,
    RENDERINGS,
    ROOT,
    Resource,
    environment,
    every,
    of_kind,
    pods,
    ray_clusters,
    render,
)
from tools.packed import QDRANT
from tools.settings_table import settings_table

KUBERNETES_VERSIONS = ("1.30", "1.37")  # the oldest that is promised, and the newest there are schemas of
CLUSTER_WIDE = {"Namespace"}
SECRETS = {"ray-token": {"auth_token"}, "qdrant": {"api-key"}, "redis": {"password"}}


@pytest.fixture(params=RENDERINGS)
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    return render(request.param)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_built_in_kinds_are_what_kubernetes_accepts(resources: list[Resource], version: str) -> None:
    built_in = [one for one in resources if not one["apiVersion"].startswith("ray.io/")]
    assert len(built_in) > 15
    for one in built_in:
        kubernetes_validate.validate(one, version, strict=True)
    for one in pods(resources):
        template = {"apiVersion": "v1", "kind": "PodTemplate", "template": one.template}
        kubernetes_validate.validate(template, version, strict=True)


def test_kuberays_kinds_have_the_fields_that_it_documents(resources: list[Resource]) -> None:
    found = [one for one in resources if one["apiVersion"].startswith("ray.io/")]
    assert {one["kind"] for one in found} == {"RayService", "RayJob"}
    for one in found:
        jsonschema.validate(one, kuberay.schema(one["kind"]))


@pytest.mark.parametrize("rendering", RENDERINGS[1:])
def test_an_overlay_is_a_namespace_of_its_own(rendering: str) -> None:
    resources = render(rendering)
    (namespace,) = of_kind(resources, "Namespace")
    for one in resources:
        if one["kind"] not in CLUSTER_WIDE:
            assert one["metadata"]["namespace"] == namespace, one["metadata"]["name"]


def test_ray_is_the_one_of_the_constraints(resources: list[Resource]) -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    for spec in ray_clusters(resources).values():
        assert f"ray=={spec['rayVersion']}" in pins


def test_images_have_their_tag_in_one_place(resources: list[Resource]) -> None:
    base = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text(encoding="utf-8"))
    known = {f"{one['newName']}:{one['newTag']}" for one in base["images"]}
    found = {value for one in resources for path, value in every(one) if path.endswith("/image")}
    assert found == known
    for path in KUBERNETES.rglob("*.yaml"):
        for image in re.findall(r"\bimage: *(.+)", path.read_text(encoding="utf-8")):
            assert image in {one["name"] for one in base["images"]}, path


def test_versions_of_images_are_those_that_are_tested() -> None:
    base = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text(encoding="utf-8"))
    tags = {one["name"]: one["newTag"] for one in base["images"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert tags["image-search"] == project["version"]
    assert tags["qdrant"] == f"v{QDRANT.package.rpartition('@')[2]}-unprivileged"


def secret_keys(resources: list[Resource]) -> Iterator[tuple[str, str]]:
    for one in resources:
        for path, value in every(one):
            if path.endswith("/secretKeyRef"):
                yield value["name"], value["key"]
    for spec in ray_clusters(resources).values():
        yield spec["authOptions"]["secretName"], "auth_token"


def test_secrets_are_references_that_the_page_says_how_to_make(resources: list[Resource]) -> None:
    assert not of_kind(resources, "Secret")
    named = set(secret_keys(resources))
    assert named == {(name, key) for name, keys in SECRETS.items() for key in keys}
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    for name, key in named:
        assert re.search(rf"create secret generic {name} --from-literal={key}=", page), name
    for one in pods(resources):
        for variable in one.container.get("env", []):
            if re.search(r"KEY|TOKEN|PASSWORD|SECRET", variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"], variable["name"]
    for one in of_kind(resources, "ConfigMap").values():
        assert not re.search(r"KEY|TOKEN|PASSWORD|SECRET", " ".join(one["data"]))


def test_no_secret_is_committed() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "cluster"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in tracked:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(
            r"^kind: Secret$|secretGenerator|BEGIN [A-Z ]*PRIVATE KEY", text, re.MULTILINE
        ), name


def test_settings_are_those_of_the_settings_model(
    resources: list[Resource], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = settings_table()
    for one in pods(resources):
        values = environment(one, resources)
        with monkeypatch.context() as patch:
            for name, value in values.items():
                if name.startswith("IMAGE_SEARCH_"):
                    assert f"`{name}`" in table, name
                    patch.setenv(name, value)
            settings = load_settings()
        if one.name.startswith("Ray"):
            assert settings.store.qdrant_api_key == "secret"
            mounted = {mount["mountPath"] for mount in one.container["volumeMounts"]}
            assert {str(settings.store.path.parent), str(settings.media_root.parent)} <= mounted


def test_settings_name_the_qdrant_nodes_that_there_are(
    resources: list[Resource], monkeypatch: pytest.MonkeyPatch
) -> None:
    qdrant = of_kind(resources, "StatefulSet")["qdrant"]
    nodes = of_kind(resources, "Service")[qdrant["spec"]["serviceName"]]
    assert nodes["spec"]["clusterIP"] == "None"
    (port,) = (one["port"] for one in nodes["spec"]["ports"] if one["name"] == "http")
    count = qdrant["spec"]["replicas"]
    urls = [f"http://qdrant-{n}.{nodes['metadata']['name']}:{port}" for n in range(count)]
    for one in pods(resources):
        if one.name.startswith("Ray"):
            values = environment(one, resources)
            assert values["IMAGE_SEARCH_STORE__QDRANT_URL"] == ",".join(urls)
            assert int(values["IMAGE_SEARCH_STORE__QDRANT__REPLICAS"]) <= count


def test_pods_run_without_rights(resources: list[Resource]) -> None:
    for one in pods(resources):
        assert one.spec["securityContext"]["runAsNonRoot"], one.name
        assert one.spec["securityContext"]["runAsUser"] > 0, one.name
        assert one.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, one.name
        assert one.container["securityContext"]["allowPrivilegeEscalation"] is False, one.name
        assert one.container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, one.name
        assert one.container["resources"]["requests"].keys() >= {"cpu", "memory"}, one.name
        assert "memory" in one.container["resources"]["limits"], one.name


def test_volumes_that_are_mounted_exist(resources: list[Resource]) -> None:
    claims = of_kind(resources, "PersistentVolumeClaim")
    own = {
        claim["metadata"]["name"]
        for one in of_kind(resources, "StatefulSet").values()
        for claim in one["spec"]["volumeClaimTemplates"]
    }
    for one in pods(resources):
        volumes = {volume["name"] for volume in one.spec.get("volumes", [])}
        assert {mount["name"] for mount in one.container.get("volumeMounts", [])} <= volumes | own, one.name
        for volume in one.spec.get("volumes", []):
            if "persistentVolumeClaim" in volume:
                assert claims[volume["persistentVolumeClaim"]["claimName"]]["spec"]["accessModes"] == [
                    "ReadWriteMany"
                ]


def test_qdrant_forms_one_cluster(resources: list[Resource]) -> None:
    """Its start, read by bash: the first node founds the cluster, each other one joins through the first."""
    (qdrant,) = (one for one in pods(resources) if one.name == "qdrant")
    assert environment(qdrant, resources)["QDRANT__CLUSTER__ENABLED"] == "true"
    for node, joins in (("qdrant-0", False), ("qdrant-2", True)):
        script = qdrant.container["args"][0].replace("exec ./entrypoint.sh", "printf '%s\\n'")
        printed = subprocess.run(
            [*qdrant.container["command"], script],
            env={"HOSTNAME": node, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        own = ["--uri", f"http://{node}.qdrant-nodes:{qdrant.ports['p2p']}"]
        assert printed == own + ["--bootstrap", "http://qdrant-0.qdrant-nodes:6335"] * joins


def test_qdrant_says_when_it_is_ready_and_alive(resources: list[Resource]) -> None:
    for one in pods(resources):
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = one.container.get(name)
            if probe:
                check = probe.get("httpGet") or probe["tcpSocket"]
                assert check["port"] in one.ports, (one.name, name)
    (qdrant,) = (one for one in pods(resources) if one.name == "qdrant")
    assert qdrant.container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert qdrant.container["livenessProbe"]["httpGet"]["path"] == "/livez"
