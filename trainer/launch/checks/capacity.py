"""How many workers the nodes take. Pure: from the API's JSON."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from trainer.core.json_types import Json
from trainer.launch.checks import quantity
from trainer.launch.checks.placement import why_not

Amounts = dict[str, float]
"""Amounts by the name of the resource, in its base unit."""

GPU = "nvidia.com/gpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Capacity:
    """How many workers fit on the nodes, and what they lack."""

    now: int  # Workers that fit beside what runs now.
    empty: int  # Workers that would fit if nothing else ran.
    nodes: int  # Nodes that may run a worker at all.
    lacking: str  # What a worker asks for that no node has so much of, as text; "" if nothing.
    gpus: int  # GPUs of all nodes.
    free_gpus: int  # GPUs of all nodes that nothing uses.
    left_out: str = ""  # How many nodes may not run a worker, and why.


def requests(pod_spec: Json) -> Amounts:
    """What one pod asks for; a limit counts where no request is given, as Kubernetes has it.

    Containers that come before the others ask for theirs when the others do not run yet.
    """
    total: Amounts = collections.defaultdict(float)
    for container in pod_spec.get("containers", ()):
        for name, amount in _asks_for(container).items():
            total[name] += amount
    for container in pod_spec.get("initContainers", ()):
        for name, amount in _asks_for(container).items():
            total[name] = max(total[name], amount)
    return dict(total)


def _asks_for(container: Json) -> Amounts:
    resources = container.get("resources", {})
    amounts = {**resources.get("limits", {}), **resources.get("requests", {})}
    return {name: quantity.number(amount) for name, amount in amounts.items()}


def capacity(nodes: Iterable[Json], pods: Iterable[Json], pod_spec: Json, workers: int) -> Capacity:
    """How many workers the nodes take.

    Args:
      nodes: all nodes.
      pods: all pods on them.
      pod_spec: a worker's.
      workers: how many there are to be: more that would fit are not counted.
    """
    worker = {**requests(pod_spec), "pods": 1.0}
    used_on = _used(pods)
    now = empty = usable = 0
    gpus = free_gpus = 0.0
    largest: Amounts = collections.defaultdict(float)
    left_out: collections.Counter[str] = collections.Counter()
    for node in nodes:
        used = used_on[node["metadata"]["name"]]
        total = {name: quantity.number(amount) for name, amount in _allocatable(node).items()}
        free = {name: amount - used[name] for name, amount in total.items()}
        gpus += total.get(GPU, 0.0)
        free_gpus += max(0.0, free.get(GPU, 0.0))
        if why := why_not(node, pod_spec):
            left_out[why] += 1
            continue
        usable += 1
        now += _fitting(free, worker)
        empty += _fitting(total, worker)
        for name in worker:
            largest[name] = max(largest[name], total.get(name, 0.0))
    lacking = [
        f"{quantity.text(name, amount)} {name} (the largest node has {quantity.text(name, largest[name])})"
        for name, amount in worker.items()
        if largest[name] < amount
    ]
    return Capacity(
        now=min(now, workers),
        empty=min(empty, workers),
        nodes=usable,
        lacking=", ".join(lacking),
        gpus=int(gpus),
        free_gpus=int(free_gpus),
        left_out=", ".join(f"{count} {why}" for why, count in left_out.most_common()),
    )


def gpus_for_each(nodes: Sequence[Json], pods: Sequence[Json], pod_spec: Json, workers: int) -> int:
    """The most GPUs that every one of the workers can have of those that are free.

    Returns:
      1 where not every worker gets one now: those that get none wait. 0 where no node that may run a worker has any.
    """
    most = max((int(quantity.number(_allocatable(node).get(GPU, 0))) for node in nodes), default=0)
    for gpus in range(most, 0, -1):
        if capacity(nodes, pods, _with_gpus(pod_spec, gpus), workers).now >= workers:
            return gpus
    return 1 if capacity(nodes, (), _with_gpus(pod_spec, 1), 1).empty else 0


def _used(pods: Iterable[Json]) -> Mapping[str, Amounts]:
    """What the pods on each node ask for, by the node's name; 0 of everything on other nodes."""
    used: dict[str, Amounts] = collections.defaultdict(lambda: collections.defaultdict(float))
    for pod in pods:
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            continue
        on_node = used[pod["spec"].get("nodeName", "")]
        on_node["pods"] += 1
        for name, amount in requests(pod["spec"]).items():
            on_node[name] += amount
    return used


def _allocatable(node: Json) -> Json:
    amounts: Json = node["status"].get("allocatable", {})
    return amounts


def _with_gpus(pod_spec: Json, gpus: int) -> Json:
    container, *others = pod_spec["containers"]
    resources = container.get("resources", {})
    resources = {**resources, "limits": {**resources.get("limits", {}), GPU: gpus}}
    return {**pod_spec, "containers": [{**container, "resources": resources}, *others]}


def _fitting(amounts: Amounts, worker: Amounts) -> int:
    """How many workers fit into these amounts; a billionth is added, as 0.3 is less than 3 × 0.1 in floats."""
    return max(0, int(min((amounts.get(name, 0.0) + 1e-9) // each for name, each in worker.items() if each)))
