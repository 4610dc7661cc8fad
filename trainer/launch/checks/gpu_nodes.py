"""Whether the nodes' GPUs and drivers can run TensorFlow, as NVIDIA's GPU feature discovery labels them."""

from collections.abc import Iterator, Sequence

from trainer.core.gpu_support import TENSORFLOW, Version, refusal, text
from trainer.core.json_types import Json
from trainer.launch.checks import quantity
from trainer.launch.checks.capacity import GPU
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.checks.placement import may_run

# The discovery's names since version 0.16, and before.
_DRIVER = ("nvidia.com/cuda.driver-version", "nvidia.com/cuda.driver")
_CAPABILITY = ("nvidia.com/gpu.compute",)
_WHAT = "drivers"
_NAMED = 3  # Nodes that are named of those that do not fit.


def check_gpu_nodes(nodes: Sequence[Json], pod_spec: Json) -> Iterator[CheckResult]:
    """What speaks against the nodes with GPUs that may run a worker; nothing where the nodes have no such labels."""
    usable = [node for node in nodes if may_run(node, pod_spec) and quantity.number(_gpus(node))]
    labels = {node["metadata"]["name"]: node["metadata"].get("labels", {}) for node in usable}
    known = {name: of for name, of in labels.items() if _version(of, _DRIVER) or _version(of, _CAPABILITY)}
    refused = {
        name: why
        for name, of in known.items()
        if (why := refusal(driver=_version(of, _DRIVER), capability=_version(of, _CAPABILITY)))
    }
    if refused:
        named = "; ".join(f"{name} {why}" for name, why in list(refused.items())[:_NAMED])
        more = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
        count = f"{len(refused)} of {len(usable)} node(s) with GPUs cannot train"
        if len(refused) == len(usable):
            fix = "a newer driver or nodes with other GPUs, or --gpus_per_worker=0 to train on CPUs"
            yield CheckResult(Mark.FAIL, _WHAT, f"{count}: {named}{more}", fix)
        else:
            fix = "keep workers off them: --set worker.nodeSelector..., a worker that lands there ends the run with 69"
            yield CheckResult(Mark.NOTE, _WHAT, f"{count}: {named}{more}", fix)
    elif known:
        yield CheckResult(
            Mark.OK, _WHAT, f"{len(known)} node(s) with GPUs have what TensorFlow {text(TENSORFLOW)} needs"
        )


def _gpus(node: Json) -> str:
    return str(node["status"].get("allocatable", {}).get(GPU, 0))


def _version(labels: Json, names: Sequence[str]) -> Version:
    """Major and minor version in the first of these labels that a node has; () where it has none."""
    for name in names:
        major, minor = str(labels.get(f"{name}.major", "")), str(labels.get(f"{name}.minor", "0"))
        if major.isdecimal() and minor.isdecimal():
            return int(major), int(minor)
    return ()
