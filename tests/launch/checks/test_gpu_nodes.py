"""Whether nodes' GPUs can run TensorFlow, by the labels that NVIDIA's GPU feature discovery gives them."""

from typing import Any

import pytest

import trainer
from tests.support.api_objects import node
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.checks.gpu_nodes import check_gpu_nodes, line_of
from trainer.launch.checks.nodes import Nodes, check_nodes


def spec_of(image: str) -> dict[str, Any]:
    return {"containers": [{"image": image, "resources": {"limits": {"nvidia.com/gpu": 1}}}]}


SPEC = spec_of(f"registry.example/mnist-train:{trainer.__version__}-gpu")
CURRENT = spec_of(f"registry.example/mnist-train:{trainer.__version__}-gpu-current")
UNKNOWN = spec_of("registry.example:5000/team/mine:7")
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


def with_driver(major: str, labels: dict[str, str] = H100) -> dict[str, str]:
    return labels | {f"nvidia.com/{name}.major": major for name in ("cuda.driver-version", "cuda.driver")}


def found(
    *labels: dict[str, str], spec: dict[str, Any] = SPEC, workers: int = 1, gpus: int = 8, **more: Any
) -> list[CheckResult]:
    nodes = [node(f"n{index}", gpus=gpus, labels=of, **more) for index, of in enumerate(labels)]
    return list(check_gpu_nodes(nodes, spec, workers))


@pytest.mark.parametrize(
    ("spec", "needs"), [(SPEC, "2.17 needs"), (CURRENT, "2.21 needs"), (UNKNOWN, "2.17 and 2.21 need")]
)
def test_nodes_that_can_run_it(spec: dict[str, Any], needs: str) -> None:
    (result,) = found(H100, H100, spec=spec)
    assert (result.mark, str(result)) == (Mark.OK, f"ok    drivers: 2 node(s) with GPUs have what TensorFlow {needs}")


@pytest.mark.parametrize(
    ("labels", "spec", "why", "fix"),
    [
        (B200, SPEC, "n0 has compute capability 10.0, for which TensorFlow 2.17 cannot", "a newer driver or"),
        (B200, CURRENT, "n0 has compute capability 10.0, for which TensorFlow 2.21 cannot", "a newer driver or"),
        (
            with_driver("550"), CURRENT,
            "n0 has the driver 550.95, and TensorFlow 2.21 on compute capability 9.0 needs 555 or newer",
            "an image with TensorFlow 2.17 (the classic line), which runs there, a newer driver or nodes with",
        ),
        (
            with_driver("535"), SPEC, "n0 has the driver 535.95, and TensorFlow 2.17 on",
            "an image with TensorFlow 2.16 (the classic line), which runs there, a newer driver or nodes with",
        ),
        (
            {"nvidia.com/cuda.driver-version.major": "470"}, SPEC,
            "n0 has the driver 470.0, and TensorFlow 2.17 needs 525 or", "a newer driver or nodes with other GPUs, or",
        ),
    ],
)  # fmt: skip
def test_where_no_node_can_nothing_is_submitted(
    labels: dict[str, str], spec: dict[str, Any], why: str, fix: str
) -> None:
    (result,) = found(labels, spec=spec)
    assert result.mark is Mark.FAIL
    assert f"1 of 1 node(s) with GPUs cannot train: {why}" in result.text
    assert result.fix.startswith(fix)
    assert "--gpus_per_worker=0" in result.fix


def test_the_same_node_is_right_for_the_other_line() -> None:
    (result,) = found(with_driver("550"), spec=SPEC)
    assert result.mark is Mark.OK


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (
            with_driver("550"),
            "1 of 1 node(s) with GPUs cannot train if the image has the current line: n0 has the driver",
        ),
        (
            B200,
            "1 of 1 node(s) with GPUs cannot train with any line of TensorFlow: n0 has compute capability 10.0, for",
        ),
    ],
)
def test_an_image_whose_line_is_not_known_is_not_refused(labels: dict[str, str], text: str) -> None:
    (result,) = found(labels, spec=UNKNOWN)
    assert result.mark is Mark.NOTE
    assert result.text.startswith(text)
    assert "-current" in result.fix


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (f"mnist-train:{trainer.__version__}", "classic"),
        (f"registry.example:5000/team/mnist-train:{trainer.__version__}-gpu", "classic"),
        (f"mnist-train:{trainer.__version__}-current@sha256:{'0' * 64}", "current"),
        ("mine:7-gpu-current", "current"),
        ("mine:7", ""),
        ("mine-current:7", ""),
        ("mine:concurrently", ""),
        ("registry.example:5000/current", ""),
        (f"mine@sha256:{'0' * 64}", ""),
        ("", ""),
    ],
)
def test_the_line_that_an_images_tag_says(image: str, line: str) -> None:
    assert line_of(image) == line


def test_where_some_cannot_their_names_are_noted() -> None:
    (result,) = found(H100, *[B200] * 5)
    assert result.mark is Mark.NOTE
    assert result.text.startswith("5 of 6 node(s) with GPUs cannot train: n1 has compute capability 10.0, ")
    assert result.text.endswith("; and 2 more")
    assert "worker.nodeSelector" in result.fix


def test_where_the_others_cannot_hold_all_workers_nothing_is_submitted() -> None:
    (result,) = found(H100, *[B200] * 3, workers=4, gpus=1)
    assert result.mark is Mark.FAIL
    assert result.text.startswith("3 of 4 node(s) with GPUs cannot train: n1 has compute capability 10.0, ")
    assert result.text.endswith("; the others hold at most 1 of 4 worker(s)")
    assert result.fix.startswith("a newer driver or nodes with other GPUs, fewer --workers, or --gpus_per_worker=0")
    (result,) = found(H100, with_driver("550"), spec=CURRENT, workers=2, gpus=1)
    assert result.mark is Mark.FAIL
    assert result.fix.startswith("an image with TensorFlow 2.17 (the classic line), which runs there, a newer driver")
    (result,) = found(H100, *[B200] * 3, workers=4, gpus=4)
    assert result.mark is Mark.NOTE
    (result,) = found(H100, {}, {}, {}, B200, workers=4, gpus=1)  # Nothing is known of three of them.
    assert result.mark is Mark.NOTE
    (result,) = found(H100, *[B200] * 3, spec=UNKNOWN, workers=4, gpus=1)
    assert result.mark is Mark.NOTE


def test_nodes_that_do_not_say_are_taken_as_they_are() -> None:
    assert found({}) == []
    assert found({"nvidia.com/gpu.compute.major": "nine"}) == []
    (result,) = found({}, B200)
    assert result.mark is Mark.NOTE


def test_nodes_that_take_no_worker_do_not_count() -> None:
    assert found(B200, spec={**SPEC, "nodeSelector": {"zone": "a"}}) == []
    assert found(B200, ready="False") == []
    assert list(check_gpu_nodes([node("n", gpus=0, labels=B200)], SPEC, 1)) == []


def test_it_is_among_the_checks_of_a_run_that_asks_for_gpus() -> None:
    nodes = Nodes([node("n", gpus=1, labels=B200)], [])
    job = {"spec": {"completions": 1, "template": {"spec": SPEC}}}
    assert [result.mark for result in check_nodes(nodes, job) if result.what == "drivers"] == [Mark.FAIL]
    nodes = Nodes([node("h", gpus=1, labels=H100), node("b", gpus=1, labels=B200)], [])
    for completions, mark in ((1, Mark.NOTE), (2, Mark.FAIL)):
        job["spec"]["completions"] = completions
        assert [result.mark for result in check_nodes(nodes, job) if result.what == "drivers"] == [mark]
    job["spec"]["template"]["spec"] = {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}  # type: ignore[index]
    assert [result.mark for result in check_nodes(nodes, job)] == [Mark.OK]
