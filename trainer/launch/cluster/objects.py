"""What is known of a run on a cluster, from the API's JSON: its Job, every pod it ever had, warnings about them."""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping
from typing import Any, Self

from trainer.core import termination_message
from trainer.core.json_types import Json
from trainer.core.run_dir import run_name
from trainer.launch.cluster.labels import INDEX, OUTPUT, QUEUE, RELEASE

# The conditions that say how a Job ends. Complete and Failed come only when all of its pods have ended, which on a lost
# node can take for ever; the other two come when it is decided.
_ENDS = {"SuccessCriteriaMet": "complete", "FailureTarget": "failed", "Complete": "complete", "Failed": "failed"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The Job of a run."""

    name: str
    uid: str
    release: str
    workers: int
    created: float  # Unix time, as all times here.
    suspended: bool = False
    output: str = ""  # Where its run is kept: an address, pvc:NAME, or "".
    queue: str = ""  # The LocalQueue through which Kueue is to admit the Job.
    gang: int = 0  # So many workers get their nodes together, or none does; 0: each for itself.
    ended: str = ""  # "complete" or "failed"; "" while it goes on.
    reason: str = ""  # Why it failed, in one word of Kubernetes: "BackoffLimitExceeded".
    message: str = ""
    finished: float | None = None  # When its end was decided; its pods may take a while to end.
    failures: int = 0  # Pods that have failed, including those that are no longer known.

    @property
    def run(self) -> str:
        """The name of the run's folder."""
        return run_name(self.name, self.uid)

    @classmethod
    def from_json(cls, item: Json) -> Self:
        """Reads the API's object."""
        metadata, spec, status = item["metadata"], item["spec"], item.get("status", {})
        ends = [c for c in status.get("conditions", ()) if c["status"] == "True" and c["type"] in _ENDS]
        end: Mapping[str, Any] = min(
            ends, key=lambda condition: seconds(condition.get("lastTransitionTime")) or 0.0, default={}
        )
        labels = metadata.get("labels", {})
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            release=labels.get(RELEASE, ""),
            workers=spec.get("completions", 1),
            created=seconds(metadata["creationTimestamp"]) or 0.0,
            suspended=bool(spec.get("suspend")),
            output=output_of(item),
            queue=labels.get(QUEUE, ""),
            gang=spec.get("scheduling", {}).get("schedulingPolicy", {}).get("gang", {}).get("minCount", 0),
            ended=_ENDS.get(end.get("type", ""), ""),
            reason=end.get("reason", ""),
            message=end.get("message", ""),
            finished=seconds(end.get("lastTransitionTime")),
            failures=status.get("failed", 0),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pod:
    """One worker's pod; a worker may have had several."""

    uid: str
    name: str
    index: int
    created: float
    phase: str = "Pending"  # Pending, Running, Succeeded or Failed.
    node: str = ""
    deleting: bool = False
    gone: bool = False  # It has been deleted; the rest is how it was last seen.
    scheduled: float | None = None
    started: float | None = None
    finished: float | None = None
    taken: float | None = None  # When Kubernetes, or somebody, began to take it away.
    exit_code: int | None = None
    reason: str = ""  # Why it ended, in one word of Kubernetes: "OOMKilled", "Evicted".
    detail: str = ""  # Kubernetes' sentence beside that word.
    waiting: tuple[str, str] | None = None  # Why its container does not start: a word and a sentence.
    unschedulable: str = ""  # What the scheduler says.
    held: tuple[str, str] | None = None  # Why the scheduler does not even try: a word and a sentence.
    disruption: tuple[str, str] | None = None  # Why Kubernetes took it away: a word and a sentence.
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # What its termination message says.

    @property
    def failed(self) -> bool:
        """Whether it ended, and not well."""
        return self.phase == "Failed" or (self.exit_code or 0) != 0

    @property
    def lost(self) -> bool:
        """Whether it failed, or is gone without having ended."""
        return self.failed or (self.gone and self.exit_code is None and self.phase != "Succeeded")

    @property
    def left(self) -> float:
        """When it ended or was taken away; where neither is known, when it was made."""
        return next(time for time in (self.finished, self.taken, self.created) if time is not None)

    @classmethod
    def from_json(cls, item: Json) -> Self:
        """Reads the API's object."""
        metadata, status = item["metadata"], item.get("status", {})
        conditions = {c["type"]: c for c in status.get("conditions", ())}
        scheduled, disruption = conditions.get("PodScheduled", {}), conditions.get("DisruptionTarget", {})
        container: dict[str, Any] = next((c for c in status.get("containerStatuses", ()) if c["name"] == "worker"), {})
        state = container.get("state", {})
        terminated, waiting, running = (state.get(key) or {} for key in ("terminated", "waiting", "running"))
        deleted = seconds(metadata.get("deletionTimestamp"))  # The end of its grace period.
        if deleted is not None:
            deleted -= metadata.get("deletionGracePeriodSeconds") or 0
        disrupted = disruption.get("status") == "True"
        why = scheduled.get("reason", "") if scheduled.get("status") == "False" else ""
        return cls(
            uid=metadata["uid"],
            name=metadata["name"],
            index=int(metadata.get("labels", {}).get(INDEX, metadata.get("annotations", {}).get(INDEX, 0))),
            created=seconds(metadata["creationTimestamp"]) or 0.0,
            phase=status.get("phase", "Pending"),
            node=item["spec"].get("nodeName", ""),
            deleting="deletionTimestamp" in metadata,
            scheduled=seconds(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None,
            # A container that could not be started says that it started in 1970.
            started=seconds(running.get("startedAt") or terminated.get("startedAt")) or None,
            finished=seconds(terminated.get("finishedAt")),
            taken=(seconds(disruption.get("lastTransitionTime")) if disrupted else None) or deleted,
            exit_code=terminated.get("exitCode"),
            reason=status.get("reason") or terminated.get("reason", ""),
            detail=status.get("message", ""),
            waiting=(waiting.get("reason", ""), waiting.get("message", "")) if waiting else None,
            unschedulable=scheduled.get("message", "") if why == "Unschedulable" else "",
            held=(why, scheduled.get("message", "")) if why not in ("", "Unschedulable") else None,
            disruption=(disruption["reason"], disruption.get("message", "")) if disrupted else None,
            facts=termination_message.loads(terminated.get("message", "")),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warned:
    """A warning event."""

    about: str  # The kind and name of the object it is about: "Pod mnist-train-1a2b3c4d-0-xyz12".
    uid: str  # The UID of that object.
    reason: str
    message: str
    time: float

    @classmethod
    def from_json(cls, item: Json) -> Self:
        """Reads the API's object."""
        about = item["involvedObject"]
        when = item.get("lastTimestamp") or item.get("eventTime") or item["metadata"]["creationTimestamp"]
        return cls(
            about=f"{about.get('kind', '')} {about.get('name', '')}",
            uid=about.get("uid", ""),
            reason=item.get("reason", ""),
            message=item.get("message", ""),
            time=seconds(when) or 0.0,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """All that is known of a run at one moment."""

    job: Job
    pods: tuple[Pod, ...] = ()  # All it ever had, oldest first.
    warnings: tuple[Warned, ...] = ()  # About the Job and its pods, oldest first.

    def current(self) -> dict[int, Pod]:
        """The newest pod of each worker that has one."""
        return {pod.index: pod for pod in self.pods}

    def of(self, worker: int) -> list[Pod]:
        """All pods of a worker, oldest first."""
        return [pod for pod in self.pods if pod.index == worker]

    @property
    def ended(self) -> float | None:
        """When the run ended: when its chief did, where the run succeeded and that is known."""
        return self.done.finished if self.done and self.done.finished else self.job.finished

    @property
    def done(self) -> Pod | None:
        """The chief's pod, if it has completed the run, which the Job says only a little later."""
        chief = self.current().get(0)
        return chief if chief is not None and chief.exit_code == 0 and self.job.ended != "failed" else None


def output_of(job: Json) -> str:
    """Where a Job's run is kept, rendered or on a cluster: an address, `pvc:NAME`, or ""."""
    output = job["metadata"].get("annotations", {}).get(OUTPUT)
    return _output_of_0_1_0(job) if output is None else str(output)


def _output_of_0_1_0(job: Json) -> str:
    """As `output_of`, for a Job of chart 0.1.0, which has no annotation: its agent's flag or its claim says it."""
    pod = job.get("spec", {}).get("template", {}).get("spec", {})
    for container in pod.get("containers", ()):
        for argument in container.get("args", ()):
            if argument.startswith("--output="):
                return str(argument.removeprefix("--output="))
    for volume in pod.get("volumes", ()):
        if volume.get("name") == "runs" and "persistentVolumeClaim" in volume:  # Others are the user's.
            return f"pvc:{volume['persistentVolumeClaim']['claimName']}"
    return ""


def forbidden(text: str) -> str:
    """Why the API server admits no such pod: its message without the pod's name, which is another one at every try."""
    return text.partition(" is forbidden: ")[2] or text


def concerns(event: Json, job: str) -> bool:
    """Whether an event is about the Job of that name, a pod of it, or the Workload that Kueue made of it."""
    about = event["involvedObject"].get("name", "")
    if event["involvedObject"].get("kind") == "Workload":
        return bool(about.startswith(f"job-{job}-"))
    return about == job or bool(about.startswith(f"{job}-"))


def in_order(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """The pods, oldest first; of two that were made in the same second, the one that has ended first."""
    return tuple(sorted(pods, key=lambda pod: (pod.created, pod.finished or float("inf"), pod.index)))


def seconds(stamp: str | None) -> float | None:
    """The Unix time of an RFC 3339 time stamp; None where there is none, or no such."""
    try:
        return datetime.datetime.fromisoformat(stamp).timestamp() if stamp else None
    except (ValueError, OverflowError):
        return None
