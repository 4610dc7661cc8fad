"""Why workers do not run yet, in words. Pure: from what was seen."""

import collections
import dataclasses
from collections.abc import Sequence

from trainer.launch.cluster.objects import Job, Pod, Seen, Warned, forbidden

_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
_STARTING = {"ContainerCreating", "PodInitializing"}
_GROUP = "pod group is unschedulable, "  # Said of a pod that a node could take, were there room for the others.
_HELD = {"SchedulingGated": "gated", "SchedulerError": "scheduler error"}


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why some workers do not run."""

    word: str  # Short, for a table.
    text: str  # A sentence without its full stop.
    workers: tuple[int, ...]  # Empty: there is no pod at all.


def reasons(seen: Seen) -> list[Reason]:
    """What keeps workers from running, the reason of the most workers first; none when all run or the Job has ended."""
    if seen.job.ended:
        return []
    waiting = [pod for pod in seen.current().values() if pod.started is None and not pod.gone and not pod.failed]
    return _grouped(seen, waiting)


def never_ran(seen: Seen) -> list[Reason]:
    """What kept the newest pods of workers from running, once the Job has ended, which removes its pods."""
    return _grouped(seen, [pod for pod in seen.current().values() if pod.started is None and not pod.failed])


def none_ran(seen: Seen) -> bool:
    """Whether no worker's container has ever started."""
    if seen.job.failures and not seen.pods:  # The pods are gone; they failed, so they ran.
        return False
    return all(pod.started is None for pod in seen.pods)


def unstarted(seen: Seen) -> list[int]:
    """The workers none of whose known pods has ever run."""
    ran = {pod.index for pod in seen.pods if pod.started is not None}
    return [index for index in range(seen.job.workers) if index not in ran]


def never_began(seen: Seen, *, waits: bool) -> bool:
    """Whether training has never begun because workers do not run.

    Args:
      seen: what was seen.
      waits: whether the chief's agent, as far as it was heard, still waits for the run's first attempt.
    """
    if none_ran(seen):
        return True
    chief_pods, first_start = seen.of(0), min(pod.started for pod in seen.pods if pod.started is not None)
    # The chief's pod is made first: one that was made after others ran replaced one that is no longer known.
    if not unstarted(seen) or not chief_pods or chief_pods[0].created > first_start:
        return False
    return waits or chief_pods[0].started is None


def _grouped(seen: Seen, waiting: Sequence[Pod]) -> list[Reason]:
    warned: dict[str, list[Warned]] = collections.defaultdict(list)
    for warning in seen.warnings:
        warned[warning.uid].append(warning)
    groups: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for pod in waiting:
        groups[_why_not_running(seen.job, pod, warned[pod.uid])].append(pod.index)
    grouped = [Reason(word, text, tuple(sorted(workers))) for (word, text), workers in groups.items()]
    grouped.sort(key=lambda reason: -len(reason.workers))
    refused = _refused(seen)
    return [refused, *grouped] if refused else grouped


def _refused(seen: Seen) -> Reason | None:
    """The workers for which Kubernetes makes no pod, and why; not those whose next pod is still to come."""
    job, current = seen.job, seen.current()
    refusals = [w for w in seen.warnings if w.uid == job.uid and w.reason == "FailedCreate"]
    if job.suspended:
        lacking = {index for index, pod in current.items() if pod.gone}
    else:
        last = refusals[-1].time if refusals else float("-inf")
        lacking = {index for index, pod in current.items() if pod.lost and pod.left <= last}
    missing = tuple(index for index in range(job.workers) if index not in current or index in lacking)
    why = _why_not_made(seen, refusals) if missing else None
    return Reason(*why, missing) if why else None


def _why_not_made(seen: Seen, refusals: Sequence[Warned]) -> tuple[str, str] | None:
    job = seen.job
    if job.suspended:
        if job.queue:
            messages = [w.message for w in seen.warnings if w.about.startswith("Workload ")]
            why = messages[-1] if messages else "not yet"
            return "queued", f"Kueue has not admitted the job to queue {job.queue}: {why}"
        return "suspended", "the job is suspended (spec.suspend)"
    if not refusals:
        return None
    text = forbidden(refusals[-1].message.removeprefix("Error creating: "))
    if "exceeded quota" in text:
        return "quota", f"the namespace's quota does not allow the pods: {text}"
    if "violates PodSecurity" in text:
        return "forbidden", f"the namespace's Pod Security does not allow the pods: {text}"
    return "not made", f"Kubernetes does not make the pods: {text}"


def _why_not_running(job: Job, pod: Pod, warned: Sequence[Warned]) -> tuple[str, str]:
    if pod.unschedulable.startswith(_GROUP):
        return "gang", f"it gets a node when the others do (job.gang): {pod.unschedulable.removeprefix(_GROUP)}"
    if pod.unschedulable:
        return "unschedulable", f"no node can take it: {pod.unschedulable}"
    if pod.held:
        word, sentence = pod.held
        return _HELD.get(word, word), f"the scheduler does not place it ({word}): {sentence}"
    if pod.waiting and pod.waiting[0] in _IMAGE:
        # The kubelet's back-off forgets why; its events remember.
        pulls = [w.message for w in warned if w.reason == "Failed" and "pull" in w.message]
        return "image", f"{pod.waiting[0]}: {pulls[0] if pulls else pod.waiting[1]}"
    if pod.waiting and pod.waiting[0] not in _STARTING:
        return pod.waiting[0], f"{pod.waiting[0]}: {pod.waiting[1]}"
    if pod.node:
        failed = [w for w in warned if w.reason.startswith("Failed")]
        if failed:
            return "starting", f"{failed[-1].reason}: {failed[-1].message}"
        return "starting", "the node pulls the image and starts the container"
    if job.gang:
        return "new", f"the scheduler places it when {job.gang} of the workers have a pod that has not ended (job.gang)"
    return "new", "the scheduler has not looked at it yet"
