"""Services, policies and budgets are about pods that there are: who needs whom may talk, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures.manifests import RENDERINGS, Pods, Resource, of_kind, pods, render, selected

# of other charts, so no pods of ours
OUTSIDE_NAMESPACES = {"ingress-nginx", "monitoring", "kube-system"}
OUTSIDE_PODS = ({"app.kubernetes.io/name": "kuberay-operator"}, {"k8s-app": "kube-dns"})
CALLS = {  # (who, whom, which port): what our own pods have to be let do
    ("RayService cpu", "qdrant", "http"),
    ("RayService cpu", "qdrant", "grpc"),
    ("RayService cpu", "RayService head", "gcs-server"),
    ("RayService head", "RayService cpu", "serve"),
    ("RayService head", "redis", "redis"),
    ("RayJob head", "qdrant", "http"),
    ("RayJob head", "qdrant", "grpc"),
    ("qdrant", "qdrant", "p2p"),
}
NO_CALLS = {
    ("RayJob head", "redis", "redis"),
    ("RayJob head", "RayService head", "gcs-server"),
    ("RayService cpu", "RayJob head", "gcs-server"),
    ("RayService cpu", "qdrant", "p2p"),
    ("qdrant", "redis", "redis"),
    ("qdrant", "RayService cpu", "serve"),
    ("redis", "qdrant", "http"),
    ("reindex", "qdrant", "http"),
    ("reindex", "RayService head", "dashboard"),
}


@pytest.fixture(params=RENDERINGS)
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    return render(request.param)


def policies(resources: list[Resource], one: Pods, direction: str) -> list[dict[str, Any]]:
    """The rules of all policies for a pod in one direction."""
    specs = [policy["spec"] for policy in of_kind(resources, "NetworkPolicy").values()]
    mine = [spec for spec in specs if selected(spec["podSelector"], one.labels)]
    assert any(direction in spec["policyTypes"] for spec in mine), "not denied by default"
    return [rule for spec in mine for rule in spec.get(direction.lower(), [])]


def lets(rule: dict[str, Any], side: str, other: Pods, port: int) -> bool:
    """Whether a rule is about that pod of our namespace and that port; rules without pods are for elsewhere."""
    peers = [peer for peer in rule.get(side, []) if peer.keys() == {"podSelector"}]
    return any(selected(peer["podSelector"], other.labels) for peer in peers) and (
        "ports" not in rule or port in {one["port"] for one in rule["ports"]}
    )


def may_call(resources: list[Resource], who: Pods, whom: Pods, port: int) -> bool:
    return any(lets(rule, "to", whom, port) for rule in policies(resources, who, "Egress")) and any(
        lets(rule, "from", who, port) for rule in policies(resources, whom, "Ingress")
    )


def test_who_needs_whom_may_talk_and_nobody_else(resources: list[Resource]) -> None:
    by_name = {one.name: one for one in pods(resources)}
    for allowed, calls in ((True, CALLS), (False, NO_CALLS)):
        for who, whom, port in calls:
            number = by_name[whom].ports[port]
            assert may_call(resources, by_name[who], by_name[whom], number) is allowed, (who, whom, port)


def test_all_may_ask_for_names_at_the_node_too(resources: list[Resource]) -> None:
    for one in pods(resources):
        names = [rule for rule in policies(resources, one, "Egress") if {"port": 53} in ports(rule)]
        assert names, one.name
        blocks = [peer["ipBlock"]["cidr"] for rule in names for peer in rule["to"] if "ipBlock" in peer]
        assert blocks == ["169.254.20.10/32"]


def ports(rule: dict[str, Any]) -> list[dict[str, int]]:
    return [{"port": one["port"]} for one in rule.get("ports", [])]


@pytest.mark.parametrize(
    ("name", "namespace", "wanted"),
    [
        ("RayService cpu", "ingress-nginx", {"serve"}),
        ("RayService cpu", "monitoring", {"metrics", "proxy-metrics"}),
        ("RayService head", "monitoring", {"metrics", "proxy-metrics"}),
        ("RayJob head", "monitoring", {"metrics"}),
        ("qdrant", "monitoring", {"http"}),
        ("redis", "monitoring", set()),
        ("qdrant", "ingress-nginx", set()),
    ],
)
def test_other_namespaces_reach_what_is_meant_for_them(
    resources: list[Resource], name: str, namespace: str, wanted: set[str]
) -> None:
    (one,) = (each for each in pods(resources) if each.name == name)
    reached = {
        port["port"]
        for rule in policies(resources, one, "Ingress")
        for peer in rule["from"]
        if selected(peer.get("namespaceSelector", {}), {"kubernetes.io/metadata.name": namespace})
        and peer.keys() == {"namespaceSelector"}
        for port in rule["ports"]
    }
    assert {one.ports[port] for port in wanted} == reached & set(one.ports.values())


@pytest.mark.parametrize(
    ("name", "wanted"), [("RayService head", {"dashboard", "serve"}), ("RayJob head", {"dashboard"})]
)
def test_the_operator_reaches_serve_and_the_dashboard(
    resources: list[Resource], name: str, wanted: set[str]
) -> None:
    (one,) = (each for each in pods(resources) if each.name == name)
    reached = {
        port["port"]
        for rule in policies(resources, one, "Ingress")
        for peer in rule["from"]
        if peer.get("podSelector") == {"matchLabels": OUTSIDE_PODS[0]}
        for port in rule["ports"]
    }
    assert reached == {one.ports[port] for port in wanted}


def test_the_api_of_kubernetes_is_for_the_autoscaler_and_the_start_of_a_run(
    resources: list[Resource],
) -> None:
    reaching = {
        one.name
        for one in pods(resources)
        for rule in policies(resources, one, "Egress")
        if "to" not in rule and {"port": 443} in ports(rule)
    }
    assert reaching == {"RayService head", "reindex"}


def test_the_internet_is_open_by_setting_only() -> None:
    for rendering, reaches in (
        ("overlays/dev", set()),
        ("overlays/prod", {"RayService", "RayJob"}),
    ):
        resources = render(rendering)
        found = set()
        for one in pods(resources):
            for rule in policies(resources, one, "Egress"):
                for peer in rule.get("to", []):
                    if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                        assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= set(
                            peer["ipBlock"]["except"]
                        )
                        found.add(one.name.split()[0])
        assert found == reaches, rendering


def test_selectors_of_policies_are_of_pods_that_exist(resources: list[Resource]) -> None:
    labels = [one.labels for one in pods(resources)]
    for name, policy in of_kind(resources, "NetworkPolicy").items():
        assert any(selected(policy["spec"]["podSelector"], one) for one in labels), name
        for side in ("ingress", "egress"):
            for rule in policy["spec"].get(side, []):
                for peer in rule.get("from", []) + rule.get("to", []):
                    namespace = peer.get("namespaceSelector", {}).get("matchLabels", {})
                    if namespace:
                        assert namespace["kubernetes.io/metadata.name"] in OUTSIDE_NAMESPACES, name
                    known = OUTSIDE_PODS if "namespaceSelector" in peer else labels
                    if "podSelector" in peer:
                        assert any(selected(peer["podSelector"], one) for one in known), name


def test_ports_of_policies_are_ports_of_the_pods_they_lead_to(resources: list[Resource]) -> None:
    for name, policy in of_kind(resources, "NetworkPolicy").items():
        spec = policy["spec"]
        own = [one for one in pods(resources) if selected(spec["podSelector"], one.labels)]
        for rule in spec.get("ingress", []):
            known = {port for one in own for port in one.ports.values()}
            assert {one["port"] for one in rule.get("ports", [])} <= known, name
        for rule in spec.get("egress", []):
            for peer in rule.get("to", []):
                if peer.keys() == {"podSelector"}:
                    others = [one for one in pods(resources) if selected(peer["podSelector"], one.labels)]
                    known = {port for one in others for port in one.ports.values()}
                    assert {one["port"] for one in rule.get("ports", [])} <= known, name


def test_services_lead_to_pods_and_ports_that_exist(resources: list[Resource]) -> None:
    services = of_kind(resources, "Service")
    assert services
    for name, service in services.items():
        found = [
            one
            for one in pods(resources)
            if selected({"matchLabels": service["spec"]["selector"]}, one.labels)
        ]
        assert [one.name for one in found] == [name.split("-")[0]], name
        for port in service["spec"]["ports"]:
            assert found[0].ports[port["targetPort"]] == port["port"], name


def test_the_ingress_leads_to_the_service_that_kuberay_makes(resources: list[Resource]) -> None:
    (serving,) = of_kind(resources, "RayService")
    (worker,) = (one for one in pods(resources) if one.name == "RayService cpu")
    ingresses = of_kind(resources, "Ingress")
    for ingress in ingresses.values():
        (rule,) = ingress["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        backend = path["backend"]["service"]
        assert backend == {"name": f"{serving}-serve-svc", "port": {"number": worker.ports["serve"]}}
    paths = {name: one["spec"]["rules"][0]["http"]["paths"][0]["path"] for name, one in ingresses.items()}
    assert paths == {"api": "/api", "ui": "/"}


def test_the_page_keeps_a_visitor_and_the_api_does_not(resources: list[Resource]) -> None:
    ingresses = of_kind(resources, "Ingress")
    affinity = "nginx.ingress.kubernetes.io/affinity"
    assert ingresses["ui"]["metadata"]["annotations"][affinity] == "cookie"
    assert affinity not in ingresses["api"]["metadata"]["annotations"]


def test_budgets_are_for_pods_that_exist_and_leave_most_of_them(resources: list[Resource]) -> None:
    budgets = of_kind(resources, "PodDisruptionBudget")
    protected = {
        name: {one.name for one in pods(resources) if selected(budget["spec"]["selector"], one.labels)}
        for name, budget in budgets.items()
    }
    workers = {one.name for one in pods(resources) if one.name.startswith("RayService")} - {"RayService head"}
    (service,) = of_kind(resources, "RayService").values()
    least = sum(group["minReplicas"] for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"])
    assert protected.pop("qdrant") == {"qdrant"}
    assert budgets["qdrant"]["spec"]["maxUnavailable"] == 1
    assert protected == ({"serving-workers": workers} if least > 1 else {})
    for name in protected:  # KubeRay's clusters have no scale subresource, which all but plain numbers need
        assert "maxUnavailable" not in budgets[name]["spec"]
        assert 0 < budgets[name]["spec"]["minAvailable"] < least


def test_qdrant_nodes_stay_apart() -> None:
    (qdrant,) = (one for one in pods(render("overlays/prod")) if one.name == "qdrant")
    (rule,) = qdrant.spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    assert selected(rule["labelSelector"], qdrant.labels)
    assert qdrant.count == 3
