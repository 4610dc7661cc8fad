"""Whether the workers find room on the nodes."""

from typing import Any

import pytest

from trainer.quantity import number, words
from trainer.room import room


def node(name: str, *, cpu: str = "4", memory: str = "8Gi", gpus: int = 0, **more: Any) -> dict[str, Any]:
    has = {"cpu": cpu, "memory": memory, "pods": "110", "nvidia.com/gpu": str(gpus)}
    return {
        "metadata": {"name": name, "labels": more.get("labels", {})},
        "spec": {"taints": more.get("taints", [])},
        "status": {"allocatable": has, "conditions": [{"type": "Ready", "status": more.get("ready", "True")}]},
    }


def spec(cpu: str, *, gpus: int = 0, **more: Any) -> dict[str, Any]:
    resources: dict[str, Any] = {"requests": {"cpu": cpu, "memory": "1Gi"}}
    if gpus:
        resources["limits"] = {"nvidia.com/gpu": gpus}
    return {"containers": [{"resources": resources}], **more}


def pod(on: str, cpu: str, phase: str = "Running") -> dict[str, Any]:
    return {"spec": {**spec(cpu), "nodeName": on}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("quantity", "value"),
    [("500m", 0.5), ("2", 2.0), ("3Gi", 3 * 2**30), ("1500Mi", 1500 * 2**20), ("1e3", 1000.0), ("5G", 5e9), (1.5, 1.5)],
)
def test_quantities(quantity: str | float, value: float) -> None:
    assert number(quantity) == pytest.approx(value)


def test_quantities_as_words() -> None:
    assert words("memory", 3 * 2**30) == "3Gi"
    assert words("requests.memory", 300 * 2**20) == "300Mi"
    assert words("cpu", 0.5) == "0.5"


def test_what_is_free_is_counted_apart_from_what_there_is() -> None:
    found = room([node("a"), node("b")], [pod("a", "3"), pod("b", "4", "Succeeded")], spec("2"), 4)
    assert (found.now, found.ever, found.nodes) == (2, 4, 2)
    assert found.short == ""


def test_what_no_node_has_is_named() -> None:
    found = room([node("a"), node("b", cpu="8")], [], spec("16"), 2)
    assert (found.now, found.ever) == (0, 0)
    assert found.short == "16 cpu (the largest node has 8)"


def test_gpus() -> None:
    found = room([node("a", gpus=2), node("b")], [], spec("1", gpus=1), 4)
    assert (found.gpus, found.free_gpus, found.ever) == (2, 2, 2)


def test_nodes_that_take_no_worker_are_left_out() -> None:
    taint = {"key": "nvidia.com/gpu", "value": "x", "effect": "NoSchedule"}
    nodes = [
        node("away", ready="False"),
        node("tainted", taints=[taint]),
        node("other", labels={"zone": "b"}),
        node("right", labels={"zone": "a"}),
    ]
    selected = spec("1", nodeSelector={"zone": "a"})
    assert room(nodes, [], selected, 9).nodes == 1
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert room(nodes, [], spec("1", tolerations=tolerations), 99).nodes == 3
