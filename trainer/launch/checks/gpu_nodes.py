"""Whether the nodes' GPUs and drivers can run TensorFlow, as NVIDIA's GPU feature discovery labels them."""

import re
from collections.abc import Iterator, Sequence

import trainer
from trainer.core.gpu_support import Version, lines, pinned, refusal, text, way_out
from trainer.core.json_types import Json
from trainer.launch.checks import quantity
from trainer.launch.checks.capacity import GPU, capacity
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.checks.placement import may_run

# The discovery's names since version 0.16, and before.
_DRIVER = ("nvidia.com/cuda.driver-version", "nvidia.com/cuda.driver")
_CAPABILITY = ("nvidia.com/gpu.compute",)
_WHAT = "drivers"
_NAMED = 3  # Nodes that are named of those that do not fit.


def check_gpu_nodes(nodes: Sequence[Json], pod_spec: Json, workers: int) -> Iterator[CheckResult]:
    """What speaks against the nodes with GPUs that may run a worker; nothing where the nodes have no such labels."""
    usable = [node for node in nodes if may_run(node, pod_spec) and quantity.number(_gpus(node))]
    labels = {node["metadata"]["name"]: node["metadata"].get("labels", {}) for node in usable}
    versions = {name: (_version(of, _DRIVER), _version(of, _CAPABILITY)) for name, of in labels.items()}
    known = {name: of for name, of in versions.items() if any(of)}
    if not known:
        return
    line = line_of(pod_spec["containers"][0].get("image", ""))
    if line:
        refused = _refused(known, pinned(line))
        others = [node for node in usable if node["metadata"]["name"] not in refused]
        held = capacity(others, (), pod_spec, workers).empty
        yield _of_a_line(known, refused, pinned(line), usable=len(usable), held=held, workers=workers)
    else:
        yield _of_any_line(known, len(usable))


def line_of(image: str) -> str:
    """The line of TensorFlow that an image has, as its tag says; "" where only who has built it knows.

    >>> line_of("registry.example/mnist-train:1.0.0-gpu-current"), line_of("registry.example/mine:7")
    ('current', '')
    """
    name, _, tag = image.partition("@")[0].rpartition(":")
    if not name or "/" in tag:  # A registry's port.
        return ""
    if "current" in re.split(r"[-_.]", tag):
        return "current"
    # What this version's Dockerfile builds is called so in all of the documentation.
    return "classic" if tag in (trainer.__version__, f"{trainer.__version__}-gpu") else ""


def _of_a_line(
    known: dict[str, tuple[Version, Version]],
    refused: dict[str, str],
    tensorflow: Version,
    *,
    usable: int,
    held: int,
    workers: int,
) -> CheckResult:
    """As `check_gpu_nodes`.

    Args:
      known: the versions of driver and compute capability, by the nodes that have such labels.
      refused: why it cannot run, by the nodes on which it cannot.
      tensorflow: its version.
      usable: how many nodes with GPUs may run a worker.
      held: how many of the workers those that are not refused hold when they are empty.
      workers: how many there are to be.
    """
    if not refused:
        text_of = f"{len(known)} node(s) with GPUs have what TensorFlow {text(tensorflow)} needs"
        return CheckResult(Mark.OK, _WHAT, text_of)
    described = f"{len(refused)} of {usable} node(s) with GPUs cannot train: {_named(refused)}"
    other = way_out([known[name] for name in refused], tensorflow=tensorflow)
    way = f"an image with {other}, which runs there, " if other else ""
    if len(refused) == usable:
        fix = f"{way}a newer driver or nodes with other GPUs, or --gpus_per_worker=0 to train on CPUs"
        return CheckResult(Mark.FAIL, _WHAT, described, fix)
    if held < workers:
        described += f"; the others hold at most {held} of {workers} worker(s)"
        fix = f"{way}a newer driver or nodes with other GPUs, fewer --workers, or --gpus_per_worker=0 to train on CPUs"
        return CheckResult(Mark.FAIL, _WHAT, described, fix)
    fix = f"{way and f'{way}or '}keep workers off them: --set worker.nodeSelector..., one that lands there ends with 69"
    return CheckResult(Mark.NOTE, _WHAT, described, fix)


def _of_any_line(known: dict[str, tuple[Version, Version]], usable: int) -> CheckResult:
    """For an image whose TensorFlow is not known nothing is refused: each worker looks itself, and ends with 69."""
    refused = {line: of for line in lines() if (of := _refused(known, pinned(line)))}
    for line, of in refused.items():
        where = "with any line of TensorFlow" if len(refused) == len(lines()) else f"if the image has the {line} line"
        described = f"{len(of)} of {usable} node(s) with GPUs cannot train {where}: {_named(of)}"
        fix = "a worker that lands there ends with 69; a tag with -current at its end says that the image has that line"
        return CheckResult(Mark.NOTE, _WHAT, described, fix)
    names = " and ".join(text(pinned(line)) for line in lines())
    return CheckResult(Mark.OK, _WHAT, f"{len(known)} node(s) with GPUs have what TensorFlow {names} need")


def _refused(known: dict[str, tuple[Version, Version]], tensorflow: Version) -> dict[str, str]:
    """Why it cannot run, by the nodes on which it cannot."""
    return {
        name: why
        for name, (driver, capability) in known.items()
        if (why := refusal(driver=driver, capability=capability, tensorflow=tensorflow))
    }


def _named(refused: dict[str, str]) -> str:
    named = "; ".join(f"{name} {why}" for name, why in list(refused.items())[:_NAMED])
    return named + (f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else "")


def _gpus(node: Json) -> str:
    return str(node["status"].get("allocatable", {}).get(GPU, 0))


def _version(labels: Json, names: Sequence[str]) -> Version:
    """Major and minor version in the first of these labels that a node has; () where it has none."""
    for name in names:
        major, minor = str(labels.get(f"{name}.major", "")), str(labels.get(f"{name}.minor", "0"))
        if major.isdecimal() and minor.isdecimal():
            return int(major), int(minor)
    return ()
