"""Whether the API server would take a worker's pod, and Kueue the Job."""

from collections.abc import Iterator

from trainer.core.json_types import Json
from trainer.launch.checks.check_result import CheckResult, Mark
from trainer.launch.cluster.api_server import KubeError
from trainer.launch.cluster.labels import QUEUE
from trainer.launch.cluster.objects import forbidden
from trainer.launch.cluster.watches import Kube

# The API server gives no code for why it refuses a pod: parts of its sentences are all there is to go by.
_NO_RIGHT_TO_ASK = "cannot create resource"
_NO_SERVICE_ACCOUNT = "service account"  # A namespace that has just been made has none yet.
_QUOTA = "exceeded quota"


def check_admission(kube: Kube, job: Json, *, replaces: bool) -> Iterator[CheckResult]:
    """Asks the API server whether it would take a worker's pod, without making one.

    Args:
      kube: the cluster.
      job: the chart's Job.
      replaces: its workers replace others, which still count in a quota.
    """
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
        yield _refused(error.status, forbidden(str(error)), replaces=replaces)
    else:
        text = "the namespace admits them (Pod Security, limit ranges, and what else it checks)"
        yield CheckResult(Mark.OK, "pods", text)


def _refused(status: int, why: str, *, replaces: bool) -> CheckResult:
    if status not in (403, 422) or _NO_RIGHT_TO_ASK in why or _NO_SERVICE_ACCOUNT in why:
        return CheckResult(Mark.NOTE, "pods", f"whether the namespace admits them is not known: {why}")
    if replaces and _QUOTA in why:
        text = f"no more of them are admitted beside those that are replaced: {why}"
        return CheckResult(Mark.NOTE, "pods", text)
    fix = "ask for what the namespace allows, or --namespace=another"
    return CheckResult(Mark.FAIL, "pods", f"the namespace does not admit them: {why}", fix)


def check_gang(kube: Kube, job: Json) -> Iterator[CheckResult]:
    """Whether the cluster keeps `spec.scheduling`, which one without it drops in silence; nothing without it."""
    if "scheduling" not in job["spec"]:
        return
    asked = {**job, "metadata": {"generateName": "gang-", "labels": job["metadata"]["labels"]}}
    try:
        kept = kube.post("/apis/batch/v1/namespaces/{namespace}/jobs", asked, dryRun="All")
    except KubeError as error:
        yield CheckResult(Mark.NOTE, "gang", f"whether the cluster schedules workers together is not known: {error}")
        return
    if "scheduling" in kept.get("spec", {}):
        yield CheckResult(Mark.OK, "gang", "all workers get their nodes together, or none does")
    else:
        text = "job.gang is true, and this cluster does not schedule a Job's pods together"
        fix = "Kubernetes 1.37 with its feature gates GenericWorkload and WorkloadWithJob, or Kueue (job.queue)"
        yield CheckResult(Mark.FAIL, "gang", text, fix)


def check_queue(kube: Kube, job: Json) -> Iterator[CheckResult]:
    """Whether the LocalQueue that the Job names exists; says nothing where it names none."""
    queue = job["metadata"].get("labels", {}).get(QUEUE)
    if not queue:
        return
    groups = {group["name"]: group for group in kube.get("/apis")["groups"]}
    kueue = groups.get(QUEUE.partition("/")[0])
    if kueue is None:
        text = f"job.queue is {queue}, and this cluster has no Kueue"
        yield CheckResult(Mark.FAIL, "queue", text, "install Kueue, or no queue")
        return
    version = kueue["preferredVersion"]["groupVersion"]
    if kube.find(f"/apis/{version}/namespaces/{{namespace}}/localqueues/{queue}") is None:
        text = f"there is no LocalQueue {queue} in {kube.namespace}"
        yield CheckResult(Mark.FAIL, "queue", text, "kubectl get localqueues")
    else:
        yield CheckResult(Mark.OK, "queue", f"LocalQueue {queue}")
