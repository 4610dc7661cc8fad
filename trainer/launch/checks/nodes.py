"""Whether the workers fit on the cluster's nodes."""

import dataclasses
from collections.abc import Iterator

from trainer.core.json_types import Json
from trainer.launch.checks import quantity
from trainer.launch.checks.capacity import GPU, Capacity, capacity, gpus_for_each, requests
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.checks.gpu_nodes import check_gpu_nodes
from trainer.launch.cluster.api_server import UNFINISHED, KubeError
from trainer.launch.cluster.labels import JOB_NAME, release_labels
from trainer.launch.cluster.watches import Kube
from trainer.launch.helm import rendered

_UNKNOWN = "this user may not list nodes and pods; whether there is room is not known"
_WHERE = (
    "worker.tolerations, worker.nodeSelector, worker.affinity and image.arch in --set or --values say where workers "
    "may run"
)


@dataclasses.dataclass(frozen=True)
class Nodes:
    """The nodes of the cluster, and the pods on them that stay when the release is submitted."""

    nodes: list[Json]
    pods: list[Json]

    @classmethod
    def of(cls, kube: Kube, release: str) -> "Nodes | None":
        """Asks for them, leaving out the release's workers, which are replaced; None: this user may not see them."""
        try:
            nodes = kube.list("/api/v1/nodes")["items"]
            pods = kube.list("/api/v1/pods", fieldSelector=UNFINISHED)["items"]
        except KubeError as error:
            if error.status == 403:
                return None
            raise
        return cls(nodes, [pod for pod in pods if not _is_worker(pod, kube.namespace, release)])

    def gpus(self, job: Json) -> int:
        """The GPUs that each worker of this Job can have; 0: the nodes have none."""
        return gpus_for_each(self.nodes, self.pods, rendered.pod_spec(job), rendered.workers(job))


def check_nodes(nodes: Nodes | None, job: Json) -> Iterator[CheckResult]:
    """Whether the Job's workers fit on the nodes, now or when they are empty."""
    if nodes is None:
        yield CheckResult(Mark.NOTE, "nodes", _UNKNOWN)
        return
    workers = rendered.workers(job)
    worker = requests(rendered.pod_spec(job))
    free = capacity(nodes.nodes, nodes.pods, rendered.pod_spec(job), workers)
    if worker.get(GPU):
        gpus = _gpus(free, worker[GPU], workers, len(nodes.nodes))
        yield gpus
        if gpus.failed:
            return
        yield from check_gpu_nodes(nodes.nodes, rendered.pod_spec(job), workers)
    each = ", ".join(f"{quantity.text(name, amount)} {name}" for name, amount in sorted(worker.items()))
    if free.now >= workers:
        text = f"all {workers} worker(s) fit now on {free.nodes} node(s), each with {each}"
        yield CheckResult(Mark.OK, "nodes", text)
    elif free.empty >= workers:
        text = f"{free.now} of {workers} worker(s) fit now, each with {each}; the others wait until nodes are free"
        yield CheckResult(Mark.NOTE, "nodes", text)
    elif not free.nodes:
        text = f"none of the {len(nodes.nodes)} node(s) may run a worker: {free.left_out or 'there is none'}"
        fix = f"{_WHERE}; --force where nodes are added when asked for"
        yield CheckResult(Mark.FAIL, "nodes", text, fix)
    else:
        text = f"at most {free.empty} of {workers} worker(s) ever fit on {free.nodes} node(s), each with {each}"
        if free.lacking:
            text += f": {free.lacking}"
        if free.left_out:
            text += f"; other nodes may not run one: {free.left_out}"
        less = "fewer --workers, or less: --set worker.resources.requests.cpu=..., memory=..."
        ways = [*([_WHERE] if free.left_out else ()), less, "--force where nodes are added when asked for"]
        fix = "; ".join(ways)
        yield CheckResult(Mark.FAIL, "nodes", text, fix)


def _gpus(free: Capacity, each: float, workers: int, nodes: int) -> CheckResult:
    if free.gpus:
        text = f"{free.free_gpus} of {free.gpus} are free, {each * workers:g} are asked for"
        return CheckResult(Mark.OK, "GPUs", text)
    text = f"each worker asks for {each:g}, and none of the {nodes} node(s) has any"
    fix = "--gpus_per_worker=0 trains on CPUs; --force submits where nodes with GPUs come when asked for"
    return CheckResult(Mark.FAIL, "GPUs", text, fix)


def _is_worker(pod: Json, namespace: str, release: str) -> bool:
    """Whether a pod is a worker of the release; its TensorBoard's pod has no Job."""
    labels = pod["metadata"].get("labels", {})
    return (
        pod["metadata"].get("namespace") == namespace
        and JOB_NAME in labels
        and labels.items() >= release_labels(release).items()
    )
