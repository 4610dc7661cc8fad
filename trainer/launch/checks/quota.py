"""Whether the namespace's quotas leave enough for a release."""

import collections
from collections.abc import Iterator, Sequence

from trainer.core.json_types import Json
from trainer.launch.checks import quantity
from trainer.launch.checks.capacity import Amounts, requests
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.cluster.api_server import UNFINISHED
from trainer.launch.cluster.labels import release_selector
from trainer.launch.cluster.watches import Kube


def check_quota(kube: Kube, objects: Sequence[Json], release: str) -> Iterator[CheckResult]:
    """Compares what the objects count for with what quotas leave; what the release uses now it gives back."""
    quotas = unscoped(kube)
    if not quotas:
        return
    exceeded = exceeds(quotas, needed(objects), _given_back(kube, release))
    if exceeded:
        fix = "fewer --workers, less for each, or a larger quota"
        yield CheckResult(Mark.FAIL, "quota", "; ".join(exceeded), fix)
    else:
        yield CheckResult(Mark.OK, "quota", "leaves enough")


def unscoped(kube: Kube) -> list[Json]:
    """The namespace's quotas, but for those with a scope: which pods count in these, the API server alone knows."""
    quotas = kube.list("/api/v1/namespaces/{namespace}/resourcequotas")["items"]
    return [quota for quota in quotas if not (quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"))]


def exceeds(quotas: Sequence[Json], needs: Amounts, given_back: Amounts) -> list[str]:
    """The quotas that leave too little, each as text: what it leaves, and what is asked for."""
    exceeded = []
    for quota in quotas:
        used = quota["status"].get("used", {})
        for name, limit in quota["status"].get("hard", {}).items():
            left = quantity.number(limit) - quantity.number(used.get(name, 0)) + given_back.get(name, 0.0)
            if needs.get(name, 0.0) > left:
                exceeded.append(
                    f"{quota['metadata']['name']} leaves {quantity.text(name, max(left, 0.0))} of {limit} {name}, "
                    f"{quantity.text(name, needs[name])} is asked for"
                )
    return exceeded


def needed(objects: Sequence[Json]) -> Amounts:
    """What these objects count for in a quota."""
    total: Amounts = collections.defaultdict(float, {"count/jobs.batch": 1.0})
    for value in objects:
        if value["kind"] == "Service":
            total["services"] += 1
        elif value["kind"] in ("Job", "Deployment"):
            pods = int(value["spec"].get("completions" if value["kind"] == "Job" else "replicas", 1))
            for name, amount in _of_pod(value["spec"]["template"]["spec"]).items():
                total[name] += amount * pods
    return total


def _given_back(kube: Kube, release: str) -> Amounts:
    """What the release counts for until it is replaced: its old Job goes when the new one is there."""
    path, labels = "/api/v1/namespaces/{namespace}", release_selector(release)
    pods = kube.list(f"{path}/pods", labelSelector=labels, fieldSelector=UNFINISHED)["items"]
    services = kube.list(f"{path}/services", labelSelector=labels)["items"]
    total: Amounts = collections.defaultdict(float, {"services": float(len(services))})
    for pod in pods:
        for name, amount in _of_pod(pod["spec"]).items():
            total[name] += amount
    return total


def _of_pod(pod_spec: Json) -> Amounts:
    """What one pod counts for."""
    total: Amounts = collections.defaultdict(float, {"pods": 1.0})
    for name, amount in requests(pod_spec).items():
        total[f"requests.{name}"] += amount
        if name in ("cpu", "memory"):  # A quota may name their requests without the word.
            total[name] += amount
    for container in pod_spec.get("containers", ()):
        for name, amount in container.get("resources", {}).get("limits", {}).items():
            total[f"limits.{name}"] += quantity.number(amount)
    return total
