"""What the manifests deploy is the Serve config of this package, on nodes that have room for it; and index runs start."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from cli.main import cli
from cluster import serve_configs
from cluster.reindex import start
from search_core.model import resolve_model
from search_core.settings import ModelSettings, Settings
from serve_app.app import build_applications
from tests.fixtures.manifests import RENDERINGS, Resource, environment, of_kind, pods, ray_clusters, render

CREATED = "reindex-x7k2p"


@pytest.fixture(params=RENDERINGS)
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    return render(request.param)


def serve_config(resources: list[Resource]) -> ServeDeploySchema:
    text = of_kind(resources, "RayService")["image-search"]["spec"]["serveConfigV2"]
    return ServeDeploySchema.model_validate(yaml.safe_load(text))


def test_the_config_is_the_one_of_the_package(resources: list[Resource]) -> None:
    config = serve_config(resources)
    assert config == serve_configs.load("cluster")
    targets = build_applications(Settings(model=ModelSettings(name="fake")), resolve_model("fake"), config)
    assert [(target.name, target.route_prefix) for target in targets] == [("search", "/api"), ("ui", "/")]


def test_proxies_listen_where_the_pods_say(resources: list[Resource]) -> None:
    config = serve_config(resources)
    assert config.proxy_location.value == "EveryNode"
    assert config.http_options.host == "0.0.0.0"
    serving = [one for one in pods(resources) if one.name.startswith("RayService")]
    assert {one.ports["serve"] for one in serving} == {config.http_options.port}


def test_proxies_are_set_up_on_every_node(resources: list[Resource]) -> None:
    lines = (serve_configs.files("cluster") / "proxy.env").read_text(encoding="utf-8").splitlines()
    wanted = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert wanted["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    for one in pods(resources):
        if one.name.startswith("RayService"):
            assert environment(one, resources).items() >= wanted.items(), one.name


def number(value: str) -> float:
    return float(value.removesuffix("m")) / 1000 if value.endswith("m") else float(value)


def capacity(group: dict[str, Any], which: str, count: str) -> float:
    """CPUs or GPUs that the nodes of a group tell Ray about."""
    name, resource = {"cpu": ("num-cpus", "cpu"), "gpu": ("num-gpus", "nvidia.com/gpu")}[which]
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    return group[count] * number(group["rayStartParams"].get(name) or limits.get(resource, "0"))


def claimed(config: ServeDeploySchema, which: str, count: str) -> float:
    """CPUs or GPUs that the replicas of a config claim at their fewest or most."""
    total = 0.0
    for app in config.applications:
        for one in app.deployments:
            values = one.model_dump(exclude_unset=True)
            replicas = values.get("autoscaling_config", {}).get(count) or values.get("num_replicas", 1)
            total += replicas * values["ray_actor_options"].get(f"num_{which}s", 0)
    return total


@pytest.mark.parametrize("which", ["cpu", "gpu"])
def test_the_first_nodes_have_room_for_the_first_replicas(resources: list[Resource], which: str) -> None:
    groups = ray_clusters(resources)["RayService"]["workerGroupSpecs"]
    assert claimed(serve_config(resources), which, "min_replicas") <= sum(
        capacity(group, which, "minReplicas") for group in groups
    )


@pytest.mark.parametrize("which", ["cpu", "gpu"])
def test_prod_may_grow_to_where_the_config_lets_it(which: str) -> None:
    resources = render("overlays/prod")
    groups = ray_clusters(resources)["RayService"]["workerGroupSpecs"]
    assert claimed(serve_config(resources), which, "max_replicas") <= sum(
        capacity(group, which, "maxReplicas") for group in groups
    )


def test_no_replica_shares_the_heads_pod_and_no_request_needs_it(resources: list[Resource]) -> None:
    service = of_kind(resources, "RayService")["image-search"]["spec"]
    assert service["excludeHeadPodFromServeSvc"] is True
    for spec in ray_clusters(resources).values():
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_head_comes_back_from_redis(resources: list[Resource]) -> None:
    options = ray_clusters(resources)["RayService"]["gcsFaultToleranceOptions"]
    name, port = options["redisAddress"].split(":")
    assert int(port) in [one["port"] for one in of_kind(resources, "Service")[name]["spec"]["ports"]]


def test_an_index_run_has_a_cluster_of_its_own_with_room_for_it(resources: list[Resource]) -> None:
    job = of_kind(resources, "RayJob")["reindex"]["spec"]
    assert "clusterSelector" not in job
    assert job["shutdownAfterJobFinishes"] is True
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    (head,) = (one for one in pods(resources) if one.name == "RayJob head")
    values = environment(head, resources)
    encoders = int(values["IMAGE_SEARCH_INDEX__ENCODERS"])
    gpus = encoders * float(values["IMAGE_SEARCH_INDEX__GPUS_PER_ENCODER"])
    assert gpus <= capacity(group, "gpu", "minReplicas")
    assert encoders < capacity(group, "cpu", "minReplicas")
    assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]


def test_the_command_of_an_index_run_is_one_of_ours(resources: list[Resource]) -> None:
    (head,) = (one for one in pods(resources) if one.name == "RayJob head")
    entrypoint = of_kind(resources, "RayJob")["reindex"]["spec"]["entrypoint"]
    sources = environment(head, resources)["INDEX_SOURCES"]
    program, name, *words = shlex.split(entrypoint.replace("$INDEX_SOURCES", sources))
    assert program == "image-search"
    with cli.commands[name].make_context(name, words) as context:
        assert context.params["rebuild"] is True
        assert list(context.params["sources"]) == sources.split()


def rules(resources: list[Resource]) -> list[dict[str, Any]]:
    job = of_kind(resources, "CronJob")["reindex"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    binding = of_kind(resources, "RoleBinding")["reindex"]
    assert [one["name"] for one in binding["subjects"]] == [job["serviceAccountName"]]
    assert job["serviceAccountName"] in of_kind(resources, "ServiceAccount")
    return of_kind(resources, "Role")[binding["roleRef"]["name"]]["rules"]


def allowed(rules: list[dict[str, Any]], verb: str, group: str, resource: str, name: str | None) -> bool:
    return any(
        verb in rule["verbs"]
        and group in rule["apiGroups"]
        and resource in rule["resources"]
        and ("resourceNames" not in rule or name in rule["resourceNames"])
        for rule in rules
    )


@contextmanager
def kubernetes(resources: list[Resource], requests: list[httpx.Request]) -> Iterator[httpx.Client]:
    """An API server with these RayJobs and rights."""
    jobs = of_kind(resources, "RayJob")
    rights = rules(resources)

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        _, _, group, _, _, _, resource, *names = request.url.path.split("/")
        verb = {"GET": "get", "POST": "create"}[request.method]
        if not allowed(rights, verb, group, resource, names[0] if names else None):
            return httpx.Response(403)
        if verb == "get":
            stored = {**jobs[names[0]]["metadata"], "uid": "1", "resourceVersion": "7"}
            return httpx.Response(200, json={**jobs[names[0]], "metadata": stored, "status": {"jobId": "x"}})
        made = json.loads(request.content)
        return httpx.Response(201, json={**made, "metadata": {**made["metadata"], "name": CREATED}})

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="https://kubernetes") as client:
        yield client


def test_a_run_is_the_pattern_set_free(resources: list[Resource]) -> None:
    pattern = of_kind(resources, "RayJob")["reindex"]
    assert pattern["spec"]["suspend"] is True
    requests: list[httpx.Request] = []
    with kubernetes(resources, requests) as api:
        assert start(api, "here", "reindex", "reindex-290", "0a1b") == CREATED
    assert [request.url.path for request in requests] == [
        "/apis/ray.io/v1/namespaces/here/rayjobs/reindex",
        "/apis/ray.io/v1/namespaces/here/rayjobs",
    ]
    made = json.loads(requests[-1].content)
    assert made["spec"] == {**pattern["spec"], "suspend": False}
    assert made["metadata"]["generateName"] == "reindex-"
    assert made["metadata"].keys() == {"generateName", "labels", "ownerReferences"}
    (owner,) = made["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "batch/v1", "kind": "Job", "name": "reindex-290", "uid": "0a1b"}


def test_who_starts_a_run_may_do_nothing_else(resources: list[Resource]) -> None:
    assert rules(resources) == [
        {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "resourceNames": ["reindex"], "verbs": ["get"]},
        {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create"]},
    ]
    with kubernetes(resources, []) as api, pytest.raises(httpx.HTTPStatusError, match="403"):
        start(api, "here", "another", "reindex-290", "0a1b")


def test_only_who_needs_kubernetes_has_its_token(resources: list[Resource]) -> None:
    holders = {one.name for one in pods(resources) if one.spec.get("automountServiceAccountToken", True)}
    assert holders == {"RayService head", "reindex"}
