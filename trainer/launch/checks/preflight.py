"""The checks before anything is made, in their order; each yields its results as soon as it has them."""

import re
from collections.abc import Iterator, Sequence

from trainer.core.json_types import Json
from trainer.launch.checks.admission import check_admission, check_gang, check_queue
from trainer.launch.checks.check_result import CheckResult, Mark, unless_forbidden
from trainer.launch.checks.enforcement import check_enforcement
from trainer.launch.checks.nodes import Nodes, check_nodes
from trainer.launch.checks.output_access import check_bucket, check_claim, check_tensorboard, check_volumes
from trainer.launch.checks.quota import check_quota
from trainer.launch.checks.rights import check_forwarding, check_rights
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.labels import POD_SECURITY
from trainer.launch.cluster.objects import output_of
from trainer.launch.cluster.watches import Kube
from trainer.launch.codes import LaunchError
from trainer.launch.flags import SubmitFlags
from trainer.launch.helm import helm_program, rendered


def check_helm(helm: str) -> CheckResult:
    """The first check, which needs no cluster: helm's version.

    Raises:
      LaunchError: it is not there, does not run, or is too old.
    """
    return CheckResult(Mark.OK, "helm", helm_program.version(helm))


def check_cluster(kube: Kube, oldest: tuple[int, int] | None) -> Iterator[CheckResult]:
    """The second: whether cluster and namespace are there. Where that fails no other check can be made.

    Args:
      kube: the cluster.
      oldest: the oldest version of Kubernetes that the chart takes.

    Raises:
      LaunchError: the cluster cannot be asked at all.
    """
    version = str(kube.get("/version").get("gitVersion"))
    numbers = re.match(r"v?(\d+)\.(\d+)", version)  # The field `minor` is empty in some builds.
    if numbers is None:
        raise LaunchError(f"{kube.server} does not say which Kubernetes it is, but {version!r}; is it a cluster's API?")
    text = f"{kube.context} at {kube.server}, Kubernetes {version}"
    if not kube.verified:
        text += ", whose certificate is not checked (insecure-skip-tls-verify)"
    if oldest and (int(numbers[1]), int(numbers[2])) < oldest:
        fix = f"the chart needs Kubernetes {'.'.join(map(str, oldest))} or newer"
        yield CheckResult(Mark.FAIL, "cluster", text, fix)
    else:
        yield CheckResult(Mark.OK, "cluster", text)
    yield _namespace(kube)


def check(
    kube: Kube,
    objects: Sequence[Json],
    nodes: Nodes | None,
    flags: SubmitFlags,
    *,
    replaces: bool,
    code_in_output: bool = False,
) -> Iterator[CheckResult]:
    """All others: whether what is about to be made can be made, and will run.

    Args:
      kube: the cluster.
      objects: the chart's objects.
      nodes: the nodes, where this user may see them.
      flags: what was asked for.
      replaces: a run of that name goes on, and this one is to replace it.
      code_in_output: code is to be written to the output.
    """
    job = rendered.job_in(objects)
    yield check_image(job)
    yield from check_rights(kube, objects)
    if flags.tensorboard:
        yield from check_forwarding(kube)
    yield from check_nodes(nodes, job)
    unknown = "this user may not see quotas; whether they allow it"
    yield from unless_forbidden(lambda: check_quota(kube, objects, flags.name), "quota", unknown)
    yield from check_admission(kube, job, replaces=replaces)
    yield from check_gang(kube, job)
    yield from check_enforcement(kube, objects, flags.name)
    unknown = "this user may not see claims; whether it can be used"
    yield from unless_forbidden(lambda: check_claim(kube, output_of(job)), "output", unknown)
    yield from check_bucket(output_of(job), code=code_in_output)
    yield from check_tensorboard(objects)
    unknown = "this user may not see claims; whether those of worker.extraVolumes are there"
    yield from unless_forbidden(lambda: check_volumes(kube, job), "volumes", unknown)
    unknown = "this user may not see Kueue's queues; whether it is there"
    yield from unless_forbidden(lambda: check_queue(kube, job), "queue", unknown)


def check_image(job: Json) -> CheckResult:
    """Whether the image's name is one, and says which image it is."""
    name = rendered.pod_spec(job)["containers"][0]["image"]
    repository, _, tag = name.rpartition(":")
    if tag == "latest":
        text = f"{name}: nobody can say later what `latest` was, and nodes keep an old one"
        fix = "push it under a tag of its own and name that: --image=...:1.0"
        return CheckResult(Mark.FAIL, "image", text, fix)
    if not re.fullmatch(r"[a-z0-9.:_/-]+(@sha256)?", repository):
        fix = "repository:tag in lower case, without spaces"
        return CheckResult(Mark.FAIL, "image", f"{name} is not a valid name", fix)
    if "@" in repository and not re.fullmatch("[0-9a-f]{64}", tag):
        fix = "repository@sha256: and 64 hexadecimal digits"
        return CheckResult(Mark.FAIL, "image", f"{name} is not a valid digest", fix)
    if not re.match(r"[^/]*[.:][^/]*/|localhost/", repository):
        text = f"{name} names no registry: only nodes that were given it, or Docker Hub, have it"
        return CheckResult(Mark.NOTE, "image", text)
    return CheckResult(Mark.OK, "image", name)


def _namespace(kube: Kube) -> CheckResult:
    try:
        namespace = kube.find("/api/v1/namespaces/{namespace}")
    except KubeError as error:
        if error.status != 403:
            raise
        return CheckResult(Mark.NOTE, "namespace", f"{kube.namespace}; this user may not look at it")
    if namespace is None:
        fix = f"kubectl create namespace {kube.namespace}, or --namespace=another"
        return CheckResult(Mark.FAIL, "namespace", f"{kube.namespace} does not exist", fix)
    level = namespace["metadata"].get("labels", {}).get(POD_SECURITY, "none")
    return CheckResult(Mark.OK, "namespace", f"{kube.namespace}, Pod Security level {level}")
