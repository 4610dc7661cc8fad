"""Whether the workers find room on the nodes. Pure: from the API's JSON."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainer.launch.checks.quantity import number, words

Json = Mapping[str, Any]
Amounts = dict[str, float]
GPU = "nvidia.com/gpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Room:
    """How many workers fit."""

    now: int  # On what is free.
    ever: int  # On empty nodes.
    nodes: int  # That a worker may run on at all.
    short: str  # What a worker asks for that nodes lack, in words.
    gpus: int  # Of all nodes.
    free_gpus: int


def asked(pod_spec: Json) -> Amounts:
    """What one pod asks for."""
    total: Amounts = collections.defaultdict(float)
    for container in pod_spec.get("containers", ()):
        resources = container.get("resources", {})
        wanted = {**resources.get("limits", {}), **resources.get("requests", {})}
        for name, quantity in wanted.items():
            total[name] += number(quantity)
    return dict(total)


def room(nodes: Iterable[Json], pods: Iterable[Json], pod_spec: Json, workers: int) -> Room:
    """Counts how many workers with this pod spec the nodes take, up to `workers` where more would fit."""
    one = {**asked(pod_spec), "pods": 1.0}
    used: dict[str, Amounts] = collections.defaultdict(lambda: collections.defaultdict(float))
    for pod in pods:
        if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            taken = used[pod["spec"].get("nodeName", "")]
            taken["pods"] += 1
            for name, value in asked(pod["spec"]).items():
                taken[name] += value
    now = ever = usable = 0
    gpus = free_gpus = 0.0
    best: Amounts = collections.defaultdict(float)
    for node in nodes:
        name = node["metadata"]["name"]
        has = {key: number(value) for key, value in node["status"].get("allocatable", {}).items()}
        gpus += has.get(GPU, 0.0)
        free_gpus += max(0.0, has.get(GPU, 0.0) - used[name].get(GPU, 0.0))
        if not _takes(node, pod_spec):
            continue
        usable += 1
        for key in one:
            best[key] = max(best[key], has.get(key, 0.0))
        now += _fits({key: has.get(key, 0.0) - used[name].get(key, 0.0) for key in one}, one)
        ever += _fits(has, one)
    lacking = [f"{words(k, v)} {k} (the largest node has {words(k, best[k])})" for k, v in one.items() if best[k] < v]
    return Room(
        now=min(now, workers),
        ever=min(ever, workers),
        nodes=usable,
        short=", ".join(lacking),
        gpus=int(gpus),
        free_gpus=int(free_gpus),
    )


def gpus_for_each(nodes: Sequence[Json], pods: Sequence[Json], pod_spec: Json, workers: int) -> int:
    """The most GPUs that every one of the workers can have.

    Of those that are free; where not all workers get one now they wait for one each.

    Returns:
      0 where no node that may run a worker has any.
    """
    most = max((int(number(node["status"].get("allocatable", {}).get(GPU, 0))) for node in nodes), default=0)
    for gpus in range(most, 0, -1):
        if room(nodes, pods, _with_gpus(pod_spec, gpus), workers).now >= workers:
            return gpus
    return 1 if room(nodes, (), _with_gpus(pod_spec, 1), 1).ever else 0


def _with_gpus(pod_spec: Json, gpus: int) -> Json:
    container, *others = pod_spec["containers"]
    resources = container.get("resources", {})
    resources = {**resources, "limits": {**resources.get("limits", {}), GPU: gpus}}
    return {**pod_spec, "containers": [{**container, "resources": resources}, *others]}


def _fits(free: Mapping[str, float], one: Mapping[str, float]) -> int:
    return max(0, int(min((free.get(key, 0.0) + 1e-9) // value for key, value in one.items() if value)))


def _takes(node: Json, pod_spec: Json) -> bool:
    spec, labels = node.get("spec", {}), node["metadata"].get("labels", {})
    if any(labels.get(key) != value for key, value in pod_spec.get("nodeSelector", {}).items()):
        return False
    ready = [c["status"] for c in node["status"].get("conditions", ()) if c["type"] == "Ready"]
    if ready and ready[0] != "True":
        return False
    barring = [taint for taint in spec.get("taints", ()) if taint["effect"] in ("NoSchedule", "NoExecute")]
    return all(_tolerated(taint, pod_spec.get("tolerations", ())) for taint in barring)


def _tolerated(taint: Json, tolerations: Sequence[Json]) -> bool:
    for one in tolerations:
        if one.get("effect", taint["effect"]) != taint["effect"] or one.get("key", taint["key"]) != taint["key"]:
            continue
        if one.get("operator", "Equal") == "Exists" or one.get("value", "") == taint.get("value", ""):
            return True
    return False
