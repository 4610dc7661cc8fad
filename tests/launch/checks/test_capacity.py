"""Whether the workers find room on the nodes."""

from typing import Any

import pytest

from tests.support.api_objects import node
from trainer.launch.checks.capacity import capacity, gpus_for_each
from trainer.launch.checks.quantity import number, text


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


def test_quantities_as_text() -> None:
    assert text("memory", 3 * 2**30) == "3Gi"
    assert text("requests.memory", 300 * 2**20) == "300Mi"
    assert text("cpu", 0.5) == "0.5"


def test_what_is_free_is_counted_apart_from_what_there_is() -> None:
    found = capacity([node("a"), node("b")], [pod("a", "3"), pod("b", "4", "Succeeded")], spec("2"), 4)
    assert (found.now, found.empty, found.nodes) == (2, 4, 2)
    assert found.lacking == ""


def test_what_no_node_has_is_named() -> None:
    found = capacity([node("a"), node("b", cpu="8")], [], spec("16"), 2)
    assert (found.now, found.empty) == (0, 0)
    assert found.lacking == "16 cpu (the largest node has 8)"


def test_gpus() -> None:
    found = capacity([node("a", gpus=2), node("b")], [], spec("1", gpus=1), 4)
    assert (found.gpus, found.free_gpus, found.empty) == (2, 2, 2)


@pytest.mark.parametrize(
    ("gpus", "workers", "each"),
    [
        ((8,), 1, 8),
        ((8,), 2, 4),
        ((8, 8), 3, 4),  # Two on one node.
        ((4, 1), 2, 2),
        ((1, 1), 4, 1),  # More workers than GPUs: they wait, and are not put on CPUs.
        ((0, 0), 2, 0),
    ],
)
def test_gpus_are_found_out(gpus: tuple[int, ...], workers: int, each: int) -> None:
    nodes = [node(f"n{i}", cpu="64", memory="64Gi", gpus=count) for i, count in enumerate(gpus)]
    assert gpus_for_each(nodes, [], spec("1", gpus=1), workers) == each


def test_gpus_that_others_use_are_left_to_them() -> None:
    busy = {"spec": {**spec("1", gpus=6), "nodeName": "a"}, "status": {"phase": "Running"}}
    assert gpus_for_each([node("a", gpus=8)], [busy], spec("1", gpus=1), 1) == 2
    taint = {"key": "reserved", "effect": "NoSchedule"}
    assert gpus_for_each([node("a", gpus=8, taints=[taint])], [], spec("1", gpus=1), 1) == 0


def test_nodes_that_take_no_worker_are_left_out() -> None:
    taint = {"key": "nvidia.com/gpu", "value": "x", "effect": "NoSchedule"}
    nodes = [
        node("away", ready="False"),
        node("tainted", taints=[taint]),
        node("other", labels={"zone": "b"}),
        node("right", labels={"zone": "a"}),
    ]
    selected = spec("1", nodeSelector={"zone": "a"})
    assert capacity(nodes, [], selected, 9).nodes == 1
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert capacity(nodes, [], spec("1", tolerations=tolerations), 99).nodes == 3
