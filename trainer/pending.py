"""Why workers do not run yet, in words. Pure: from what was seen."""

import collections
import dataclasses
from collections.abc import Sequence

from trainer.observed import Pod, Seen, Warned

_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
_STARTING = {"ContainerCreating", "PodInitializing"}


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why some workers do not run."""

    word: str  # Short, for a table.
    text: str  # A sentence without its full stop.
    workers: tuple[int, ...]  # Empty: there is no pod at all.


def reasons(seen: Seen) -> list[Reason]:
    """What keeps workers from running, that of the most workers first; nothing when all run or have run."""
    job = seen.job
    if job.ended:
        return []
    current = seen.current()
    waiting = [pod for pod in current.values() if pod.started is None and not pod.gone and not pod.failed]
    warned: dict[str, list[Warned]] = collections.defaultdict(list)
    for warning in seen.warnings:
        warned[warning.uid].append(warning)
    groups: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for pod in waiting:
        groups[_why(pod, warned[pod.uid])].append(pod.index)
    found = [Reason(word, text, tuple(sorted(workers))) for (word, text), workers in groups.items()]
    found.sort(key=lambda reason: -len(reason.workers))
    missing = [i for i in range(job.workers) if i not in current or (job.suspended and current[i].gone)]
    if missing and (refused := _not_made(seen)):
        found.insert(0, Reason(*refused, tuple(missing)))
    return found


def none_ran(seen: Seen) -> bool:
    """Whether no worker's container has ever started."""
    return all(pod.started is None for pod in seen.pods)


def _not_made(seen: Seen) -> tuple[str, str] | None:
    job = seen.job
    if job.suspended:
        if job.queue:
            said = [w.message for w in seen.warnings if w.about.startswith("Workload ")]
            return "queued", f"Kueue has not admitted the job to queue {job.queue}: {said[-1] if said else 'not yet'}"
        return "suspended", "the job is suspended (spec.suspend)"
    refused = [w for w in seen.warnings if w.uid == job.uid and w.reason == "FailedCreate"]
    if not refused:
        return None
    text = refused[-1].message.removeprefix("Error creating: ")
    if "exceeded quota" in text:
        return "quota", f"the namespace's quota does not allow the pods: {text}"
    if "violates PodSecurity" in text:
        return "forbidden", f"the namespace's Pod Security does not allow the pods: {text}"
    return "not made", f"Kubernetes does not make the pods: {text}"


def _why(pod: Pod, warned: Sequence[Warned]) -> tuple[str, str]:
    if pod.unschedulable:
        return "unschedulable", f"no node can take it: {pod.unschedulable}"
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
    return "new", "the scheduler has not looked at it yet"
