"""The checks before anything is made: each a line with its answer and, where it fails, the fix."""

import concurrent.futures
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from trainer.launch.checks.capacity import GPU, asked, gpus_for_each, room
from trainer.launch.checks.check_result import Line, asking
from trainer.launch.checks.output_access import bucket, claim
from trainer.launch.checks.quantity import words
from trainer.launch.checks.quota import quota
from trainer.launch.cluster.api_server import UNFINISHED, KubeError
from trainer.launch.cluster.objects import JOB_NAME, QUEUE, Job
from trainer.launch.cluster.runs import labels as of_release
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchError
from trainer.launch.flags import Submit
from trainer.launch.helm import the_job, version
from trainer.launch.report.pending import forbidden

_OLDEST_MINOR = 33  # Of Kubernetes 1; as the chart has it.
_RESOURCES = {
    "Service": ("", "services"),
    "ServiceAccount": ("", "serviceaccounts"),
    "NetworkPolicy": ("networking.k8s.io", "networkpolicies"),
    "Job": ("batch", "jobs"),
    "Deployment": ("apps", "deployments"),
}
_WATCHED = (("", "pods", ""), ("", "events", ""), ("batch", "jobs", ""))

Json = dict[str, Any]


def helm(program: str) -> Line:
    """The first check, which needs no cluster.

    Raises:
      LaunchError: it is not there, does not run, or is too old.
    """
    return Line("ok", "helm", version(program))


def check(
    kube: Kube, rendered: Sequence[Json], nodes: "Nodes | None", config: Submit, *, replaces: bool
) -> Iterator[Line]:
    """All other checks of what is about to be made, on a cluster that can be asked, each as soon as it is answered.

    Args:
      kube: the cluster.
      rendered: the chart's objects.
      nodes: the nodes, where this user may see them.
      config: what was asked for.
      replaces: a run of that name goes on, which this one is to replace.
    """
    job = the_job(rendered)
    yield from image(job)
    yield from _rights(kube, rendered)
    if config.tensorboard and not kube.may("get", "", "pods", "portforward"):
        yield Line("note", "TensorBoard", "is not forwarded: this user may not get pods/portforward")
    if nodes is None:
        yield Line("note", "nodes", "this user may not list nodes and pods; whether there is room is not known")
    else:
        yield from _room(nodes, job)
    yield from asking(
        lambda: quota(kube, rendered, config.name), "quota", "this user may not see quotas; whether they allow it"
    )
    yield from _admission(kube, job, replaces=replaces)
    yield from asking(lambda: claim(kube, job), "output", "this user may not see claims; whether it can be used")
    yield from bucket(Job.output_of(job["spec"]))
    yield from asking(lambda: _queue(kube, job), "queue", "this user may not see Kueue's queues; whether it is there")


@dataclasses.dataclass(frozen=True)
class Nodes:
    """The nodes of the cluster, and all pods that are on them."""

    nodes: list[Json]
    pods: list[Json]

    @classmethod
    def of(cls, kube: Kube, release: str) -> "Nodes | None":
        """Asks for them; None: this user may not see them. Workers of the release are left out: it replaces them."""
        try:
            nodes = kube.get("/api/v1/nodes")["items"]
            pods = kube.get("/api/v1/pods", fieldSelector=UNFINISHED)["items"]
            return cls(nodes, [pod for pod in pods if not _leaves(pod, kube.namespace, release)])
        except KubeError as error:
            if error.status == 403:
                return None
            raise

    def gpus(self, job: Json) -> int:
        """The GPUs that each worker of this Job can have; 0: the nodes have none."""
        return gpus_for_each(self.nodes, self.pods, job["spec"]["template"]["spec"], int(job["spec"]["completions"]))


def cluster(kube: Kube) -> Iterator[Line]:
    """Whether the cluster and the namespace are there; where one fails, nothing else could be answered.

    Raises:
      LaunchError: the cluster cannot be asked at all.
    """
    version = str(kube.get("/version").get("gitVersion"))
    numbers = re.match(r"v?(\d+)\.(\d+)", version)  # Its `minor` alone is empty in some builds.
    if numbers is None:
        raise LaunchError(f"{kube.server} does not say which Kubernetes it is, but {version!r}; is it a cluster's API?")
    text = f"{kube.context} at {kube.server}, Kubernetes {version}"
    if not kube.verified:
        text += ", whose certificate is not checked (insecure-skip-tls-verify)"
    if (int(numbers[1]), int(numbers[2])) < (1, _OLDEST_MINOR):
        yield Line("FAIL", "cluster", text, f"the chart needs Kubernetes 1.{_OLDEST_MINOR} or newer")
    else:
        yield Line("ok", "cluster", text)
    try:
        found = kube.find("/api/v1/namespaces/{namespace}")
    except KubeError as error:
        if error.status != 403:
            raise
        yield Line("note", "namespace", f"{kube.namespace}; this user may not look at it")
        return
    if found is None:
        fix = f"kubectl create namespace {kube.namespace}, or --namespace=another"
        yield Line("FAIL", "namespace", f"{kube.namespace} does not exist", fix)
        return
    level = found["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce", "none")
    yield Line("ok", "namespace", f"{kube.namespace}, Pod Security level {level}")


def _leaves(pod: Json, namespace: str, release: str) -> bool:
    labels = pod["metadata"].get("labels", {})
    return (
        pod["metadata"].get("namespace") == namespace
        and JOB_NAME in labels
        and labels.items() >= of_release(release).items()
    )


def image(job: Json) -> Iterator[Line]:
    """Whether its name can be one, and says which image it is."""
    name = job["spec"]["template"]["spec"]["containers"][0]["image"]
    repository, _, tag = name.rpartition(":")
    if tag == "latest":
        yield Line(
            "FAIL", "image", f"{name}: nobody can say later what `latest` was, and nodes keep an old one",
            "push it under a tag of its own and name that: --image=...:1.0",
        )  # fmt: skip
    elif not re.fullmatch(r"[a-z0-9.:_/-]+(@sha256)?", repository):
        yield Line("FAIL", "image", f"{name} is not a valid name", "repository:tag in lower case, without spaces")
    elif "@" in repository and not re.fullmatch("[0-9a-f]{64}", tag):
        yield Line("FAIL", "image", f"{name} is not a valid digest", "repository@sha256: and 64 hexadecimal digits")
    elif not re.match(r"[^/]*[.:][^/]*/|localhost/", repository):
        yield Line("note", "image", f"{name} names no registry: only nodes that were given it, or Docker Hub, have it")
    else:
        yield Line("ok", "image", name)


def _rights(kube: Kube, rendered: Sequence[Json]) -> Iterator[Line]:
    wanted = [(verb, *_RESOURCES[kind], "") for kind in sorted({v["kind"] for v in rendered} & set(_RESOURCES))
              for verb in ("get", "create", "patch", "delete")]  # fmt: skip
    wanted += [(verb, "", "secrets", "") for verb in ("create", "get", "list", "update", "delete")]  # Helm's own.
    wanted += [(verb, *resource) for resource in _WATCHED for verb in ("list", "watch")]
    wanted.append(("get", "", "pods", "log"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        allowed = list(pool.map(lambda one: kube.may(*one), wanted))
    missing: dict[str, list[str]] = {}
    for (verb, group, resource, sub), may in zip(wanted, allowed, strict=True):
        if not may:
            missing.setdefault(f"{resource}{f'/{sub}' if sub else ''}{f'.{group}' if group else ''}", []).append(verb)
    if missing:
        text = "; ".join(f"{', '.join(verbs)} {resource}" for resource, verbs in missing.items())
        yield Line(
            "FAIL", "rights", f"this user may not: {text}",
            f"a Role in namespace {kube.namespace} that grants it (the built-in ClusterRole `edit` does)",
        )  # fmt: skip
    else:
        yield Line("ok", "rights", "to make, watch and remove all of it")


def _room(there: Nodes, job: Json) -> Iterator[Line]:
    spec, workers = job["spec"]["template"]["spec"], int(job["spec"]["completions"])
    nodes, pods = there.nodes, there.pods
    found = room(nodes, pods, spec, workers)
    one = asked(spec)
    said = ", ".join(f"{words(name, value)} {name}" for name, value in sorted(one.items()))
    if one.get(GPU):
        if not found.gpus:
            yield Line(
                "FAIL", "GPUs", f"each worker asks for {one[GPU]:g}, and none of the {len(nodes)} node(s) has any",
                "--gpus_per_worker=0 trains on CPUs; --force submits where nodes with GPUs come when asked for",
            )  # fmt: skip
            return
        yield Line("ok", "GPUs", f"{found.free_gpus} of {found.gpus} are free, {one[GPU] * workers:g} are asked for")
    if found.now >= workers:
        yield Line("ok", "nodes", f"all {workers} worker(s) fit now on {found.nodes} node(s), each with {said}")
    elif found.ever >= workers:
        text = f"{found.now} of {workers} worker(s) fit now, each with {said}; the others wait until nodes are free"
        yield Line("note", "nodes", text)
    else:
        short = f": {found.short}" if found.short else ""
        yield Line(
            "FAIL", "nodes", f"at most {found.ever} of {workers} worker(s) ever fit on {found.nodes} node(s), each "
            f"with {said}{short}",
            "fewer --workers, or less: --set worker.resources.requests.cpu=..., memory=...; --force where nodes are "
            "added when asked for",
        )  # fmt: skip


def _admission(kube: Kube, job: Json, *, replaces: bool) -> Iterator[Line]:
    """Asks the API server itself whether it would take a worker's pod, without making one."""
    template = job["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": f"{job['metadata']['name']}-", "labels": template["metadata"]["labels"]},
        # The release's own service account is not there yet.
        "spec": {**template["spec"], "serviceAccountName": "default"},
    }
    try:
        kube.post("/api/v1/namespaces/{namespace}/pods", pod, dryRun="All")
    except KubeError as error:
        text = forbidden(str(error))
        if error.status not in (403, 422) or "cannot create resource" in text or "service account" in text:
            yield Line("note", "pods", f"whether the namespace admits them is not known: {text}")
        elif replaces and "exceeded quota" in text:  # What it replaces still counts.
            yield Line("note", "pods", f"no more of them are admitted beside those that are replaced: {text}")
        else:
            fix = "ask for what the namespace allows, or --namespace=another"
            yield Line("FAIL", "pods", f"the namespace does not admit them: {text}", fix)
    else:
        yield Line("ok", "pods", "the namespace admits them (Pod Security, limit ranges, and what else it checks)")


def _queue(kube: Kube, job: Json) -> Iterator[Line]:
    queue = job["metadata"].get("labels", {}).get(QUEUE)
    if not queue:
        return
    groups = kube.get("/apis")["groups"]
    group = next((group for group in groups if group["name"] == QUEUE.partition("/")[0]), None)
    if group is None:
        yield Line(
            "FAIL", "queue", f"job.queue is {queue}, and this cluster has no Kueue", "install Kueue, or no queue"
        )
        return
    version = group["preferredVersion"]["groupVersion"]
    if kube.find(f"/apis/{version}/namespaces/{{namespace}}/localqueues/{queue}") is None:
        yield Line("FAIL", "queue", f"there is no LocalQueue {queue} in {kube.namespace}", "kubectl get localqueues")
    else:
        yield Line("ok", "queue", f"LocalQueue {queue}")
