"""Whether the namespace's quotas leave enough for a release."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainer.launch.checks.capacity import Amounts, asked
from trainer.launch.checks.check_result import Line
from trainer.launch.checks.quantity import number, words
from trainer.launch.cluster.api_server import UNFINISHED
from trainer.launch.cluster.runs import selector
from trainer.launch.cluster.watches import Kube

Json = dict[str, Any]


def quota(kube: Kube, rendered: Sequence[Json], release: str) -> Iterator[Line]:
    """Compares what would be made with what quotas leave, and with what the release uses now, which it gives back."""
    quotas = kube.get("/api/v1/namespaces/{namespace}/resourcequotas")["items"]
    # Of one with a scope the API server alone knows which pods it counts.
    quotas = [one for one in quotas if not (one["spec"].get("scopes") or one["spec"].get("scopeSelector"))]
    if not quotas:
        return
    exceeded = exceeds(quotas, wanted(rendered), used(*_there(kube, release)))
    if exceeded:
        yield Line("FAIL", "quota", "; ".join(exceeded), "fewer --workers, less for each, or a larger quota")
    else:
        yield Line("ok", "quota", "leaves enough")


def exceeds(quotas: Sequence[Json], wants: Amounts, given_back: Amounts) -> list[str]:
    """The quotas that leave too little, in words."""
    exceeded = []
    for one in quotas:
        hard, taken = one["status"].get("hard", {}), one["status"].get("used", {})
        for name, limit in hard.items():
            left = number(limit) - number(taken.get(name, 0)) + given_back.get(name, 0.0)
            if wants.get(name, 0.0) > left:
                exceeded.append(
                    f"{one['metadata']['name']} leaves {words(name, max(left, 0.0))} of {limit} {name}, "
                    f"{words(name, wants[name])} is asked for"
                )
    return exceeded


def wanted(rendered: Sequence[Json]) -> Amounts:
    """What these objects count for in a quota."""
    total: Amounts = collections.defaultdict(float, {"count/jobs.batch": 1.0})
    for value in rendered:
        if value["kind"] == "Service":
            total["services"] += 1
        elif value["kind"] in ("Job", "Deployment"):
            pods = int(value["spec"].get("completions" if value["kind"] == "Job" else "replicas", 1))
            for name, amount in _counted(value["spec"]["template"]["spec"]).items():
                total[name] += amount * pods
    return total


def used(pods: Sequence[Json], services: int) -> Amounts:
    """What a release counts for that is there already; its old Job is removed only when the new one is there."""
    total: Amounts = collections.defaultdict(float, {"services": float(services)})
    for pod in pods:
        for name, amount in _counted(pod["spec"]).items():
            total[name] += amount
    return total


def _there(kube: Kube, release: str) -> tuple[list[Json], int]:
    path, mine = "/api/v1/namespaces/{namespace}", selector(release)
    pods = kube.get(f"{path}/pods", labelSelector=mine, fieldSelector=UNFINISHED)["items"]
    return pods, len(kube.get(f"{path}/services", labelSelector=mine)["items"])


def _counted(pod_spec: Mapping[str, Any]) -> Amounts:
    """What one pod counts for."""
    total: Amounts = collections.defaultdict(float, {"pods": 1.0})
    for name, amount in asked(pod_spec).items():
        total[f"requests.{name}"] += amount
        if name in ("cpu", "memory"):
            total[name] += amount
    for container in pod_spec.get("containers", ()):
        for name, quantity in container.get("resources", {}).get("limits", {}).items():
            total[f"limits.{name}"] += number(quantity)
    return total
