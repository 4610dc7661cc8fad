"""Whether the workers find room on the nodes."""

from typing import Any

import pytest

from tests.support.api_objects import node
from trainer.launch.checks.capacity import capacity, gpus_for_each, requests
from trainer.launch.checks.placement import why_not
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


def required(*expressions: dict[str, Any], **more: Any) -> dict[str, Any]:
    term = {"matchExpressions": list(expressions), **more}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def test_why_a_node_may_not_run_a_worker() -> None:
    taint = {"key": "team", "value": "a", "effect": "NoExecute"}
    cordoned = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    prefer = {"key": "any", "effect": "PreferNoSchedule"}
    assert why_not(node("a", taints=[taint]), spec("1")) == "with the taint team=a:NoExecute"
    assert why_not(node("a", taints=[{"key": "k", "effect": "NoSchedule"}]), spec("1")) == "with the taint k:NoSchedule"
    assert why_not(node("a", taints=[cordoned]), spec("1")) == "cordoned"
    assert why_not(node("a", taints=[prefer]), spec("1")) == ""
    assert why_not(node("a", ready="Unknown"), spec("1")) == "not ready"
    assert why_not(node("a"), spec("1", nodeSelector={"zone": "b"})) == "without the label zone=b"
    for toleration in ({"operator": "Exists"}, {"key": "", "operator": "Exists", "effect": ""}, {**taint}):
        assert why_not(node("a", taints=[taint]), spec("1", tolerations=[toleration])) == ""


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [
        ("In", ["a", "b"], True), ("In", ["b"], False), ("NotIn", ["b"], True), ("NotIn", ["a"], False),
        ("Exists", [], True), ("DoesNotExist", [], False), ("Gt", ["1"], False),
    ],
)  # fmt: skip
def test_affinity_to_nodes(operator: str, values: list[str], fits: bool) -> None:
    one = {"key": "zone", "operator": operator, "values": values}
    found = why_not(node("n", labels={"zone": "a"}), spec("1", affinity=required(one)))
    assert found == ("" if fits else "outside of worker.affinity.nodeAffinity")


def test_affinity_by_number_and_by_name() -> None:
    gpus = {"key": "count", "operator": "Gt", "values": ["4"]}
    fit = [why_not(node("n", labels={"count": count}), spec("1", affinity=required(gpus))) for count in ("3", "5", "x")]
    assert [why == "" for why in fit] == [False, True, False]
    named = {"key": "metadata.name", "operator": "In", "values": ["n"]}
    assert why_not(node("n"), spec("1", affinity=required(matchFields=[named]))) == ""
    assert why_not(node("m"), spec("1", affinity=required(matchFields=[named])))
    assert why_not(node("m"), spec("1", affinity=required())), "a term that requires nothing is fulfilled by none"


def test_what_comes_before_the_worker_asks_for_its_own() -> None:
    first = [{"resources": {"requests": {"cpu": "3", "memory": "1Mi"}}}]
    assert requests(spec("1", initContainers=first)) == {"cpu": 3.0, "memory": 2.0**30}


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
