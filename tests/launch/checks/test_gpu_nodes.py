"""Whether nodes' GPUs can run TensorFlow, by the labels that NVIDIA's GPU feature discovery gives them."""

from typing import Any

import pytest

from tests.support.api_objects import node
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.checks.gpu_nodes import check_gpu_nodes
from trainer.launch.checks.nodes import Nodes, check_nodes

SPEC: dict[str, Any] = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": 1}}}]}
H100 = {
    "nvidia.com/cuda.driver-version.major": "580",
    "nvidia.com/cuda.driver-version.minor": "95",
    "nvidia.com/cuda.driver.major": "580",
    "nvidia.com/cuda.driver.minor": "95",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
}
B200 = H100 | {"nvidia.com/gpu.compute.major": "10"}
OLD_DRIVER = {
    "nvidia.com/cuda.driver.major": "525",
    "nvidia.com/cuda.driver.minor": "60",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
}


def found(*labels: dict[str, str], spec: dict[str, Any] = SPEC, **more: Any) -> list[CheckResult]:
    nodes = [node(f"n{index}", gpus=8, labels=of, **more) for index, of in enumerate(labels)]
    return list(check_gpu_nodes(nodes, spec))


def test_nodes_that_can_run_it() -> None:
    (result,) = found(H100, H100)
    assert (result.mark, str(result)) == (Mark.OK, "ok    drivers: 2 node(s) with GPUs have what TensorFlow 2.16 needs")


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (B200, "n0 has compute capability 10.0, and TensorFlow 2.16 runs on 9.x at most"),
        (OLD_DRIVER, "n0 has the driver 525.60, and TensorFlow 2.16 on compute capability 9.0 needs 530 or newer"),
        ({"nvidia.com/cuda.driver-version.major": "470"}, "n0 has the driver 470.0, and TensorFlow 2.16 needs 525 or"),
    ],
)
def test_where_no_node_can_nothing_is_submitted(labels: dict[str, str], why: str) -> None:
    (result,) = found(labels)
    assert result.mark is Mark.FAIL
    assert f"1 of 1 node(s) with GPUs cannot train: {why}" in result.text
    assert "--gpus_per_worker=0" in result.fix


def test_where_some_cannot_their_names_are_noted() -> None:
    (result,) = found(H100, *[B200] * 5)
    assert result.mark is Mark.NOTE
    assert result.text.startswith("5 of 6 node(s) with GPUs cannot train: n1 has compute capability 10.0, ")
    assert result.text.endswith("; and 2 more")
    assert "worker.nodeSelector" in result.fix


def test_nodes_that_do_not_say_are_taken_as_they_are() -> None:
    assert found({}) == []
    assert found({"nvidia.com/gpu.compute.major": "nine"}) == []
    (result,) = found({}, B200)
    assert result.mark is Mark.NOTE


def test_nodes_that_take_no_worker_do_not_count() -> None:
    assert found(B200, spec={**SPEC, "nodeSelector": {"zone": "a"}}) == []
    assert found(B200, ready="False") == []
    assert list(check_gpu_nodes([node("n", gpus=0, labels=B200)], SPEC)) == []


def test_it_is_among_the_checks_of_a_run_that_asks_for_gpus() -> None:
    nodes = Nodes([node("n", gpus=1, labels=B200)], [])
    job = {"spec": {"completions": 1, "template": {"spec": SPEC}}}
    assert [result.mark for result in check_nodes(nodes, job) if result.what == "drivers"] == [Mark.FAIL]
    job["spec"]["template"]["spec"] = {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}  # type: ignore[index]
    assert [result.mark for result in check_nodes(nodes, job)] == [Mark.OK]
