"""Whether this user may do in the namespace what submitting, watching and removing a run takes."""

import concurrent.futures
from collections.abc import Iterator, Sequence

from trainer.core.json_types import Json
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.cluster.watches import Kube

_RESOURCES = {
    "Service": ("", "services"),
    "ServiceAccount": ("", "serviceaccounts"),
    "NetworkPolicy": ("networking.k8s.io", "networkpolicies"),
    "Job": ("batch", "jobs"),
    "Deployment": ("apps", "deployments"),
    "ConfigMap": ("", "configmaps"),
    "Ingress": ("networking.k8s.io", "ingresses"),
    "HTTPRoute": ("gateway.networking.k8s.io", "httproutes"),
    "PodMonitor": ("monitoring.coreos.com", "podmonitors"),
}
"""The API group and the resource of each kind that the chart makes."""

_WATCHED = (("", "pods"), ("", "events"), ("batch", "jobs"))


def check_rights(kube: Kube, objects: Sequence[Json]) -> Iterator[CheckResult]:
    """Whether this user may make, watch and remove these objects."""
    kinds = sorted({value["kind"] for value in objects} & set(_RESOURCES))
    needed = [(verb, *_RESOURCES[kind], "") for kind in kinds for verb in ("get", "create", "patch", "delete")]
    # Helm keeps each release in a Secret.
    needed += [(verb, "", "secrets", "") for verb in ("create", "get", "list", "update", "delete")]
    needed += [(verb, group, resource, "") for group, resource in _WATCHED for verb in ("list", "watch")]
    needed.append(("get", "", "pods", "log"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        allowed = list(pool.map(lambda right: kube.may(*right), needed))
    missing: dict[str, list[str]] = {}
    for (verb, group, resource, subresource), may in zip(needed, allowed, strict=True):
        if not may:
            path = f"{resource}/{subresource}" if subresource else resource
            missing.setdefault(f"{path}.{group}" if group else path, []).append(verb)
    if missing:
        text = "; ".join(f"{', '.join(verbs)} {resource}" for resource, verbs in missing.items())
        fix = f"a Role in namespace {kube.namespace} that grants it (the built-in ClusterRole `edit` does)"
        yield CheckResult(Mark.FAIL, "rights", f"this user may not: {text}", fix)
    else:
        yield CheckResult(Mark.OK, "rights", "to make, watch and remove all of it")


def check_forwarding(kube: Kube) -> Iterator[CheckResult]:
    """Whether this user may forward TensorBoard; says nothing where it is so."""
    if not kube.may("get", "", "pods", "portforward"):
        text = "is not forwarded: this user may not get pods/portforward"
        yield CheckResult(Mark.NOTE, "TensorBoard", text)
