"""What is known of a run on a cluster: its Job, every pod it ever had, warnings about them. Made of the API's JSON."""

import dataclasses
import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any, Self

from trainer.core.run_dir import run_name

INDEX = "batch.kubernetes.io/job-completion-index"
JOB_NAME = "batch.kubernetes.io/job-name"
RELEASE = "app.kubernetes.io/instance"
# The second ones come when all pods have ended, which on a lost node can take for ever.
_ENDS = {"SuccessCriteriaMet": "complete", "FailureTarget": "failed", "Complete": "complete", "Failed": "failed"}
QUEUE = "kueue.x-k8s.io/queue-name"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The Job of a run."""

    name: str
    uid: str
    release: str
    workers: int
    created: float  # Unix time, as all times here.
    suspended: bool = False
    output: str = ""  # Where its runs are kept.
    queue: str = ""  # Kueue's, if it is to admit the Job.
    ended: str = ""  # "complete" or "failed"; "" while it goes on.
    reason: str = ""  # Of the failure, in one word of Kubernetes'.
    message: str = ""
    finished: float | None = None  # When that was decided: its pods may take a while to end.
    failures: int = 0  # Pods that have failed, also those that are no longer known.

    @property
    def run(self) -> str:
        """The name of the run's folder."""
        return run_name(self.name, self.uid)

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
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
            output=cls.output_of(spec),
            queue=labels.get(QUEUE, ""),
            ended=_ENDS.get(end.get("type", ""), ""),
            reason=end.get("reason", ""),
            message=end.get("message", ""),
            finished=seconds(end.get("lastTransitionTime")),
            failures=status.get("failed", 0),
        )

    @staticmethod
    def output_of(spec: Mapping[str, Any]) -> str:
        """Where a Job with this spec keeps its run: an address, `pvc:NAME`, or ""."""
        pod = spec.get("template", {}).get("spec", {})
        arguments = [argument for container in pod.get("containers", ()) for argument in container.get("args", ())]
        buckets = [argument.removeprefix("--output=") for argument in arguments if argument.startswith("--output=")]
        volumes = pod.get("volumes", ())
        claims = [v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v]
        return next(iter([*buckets, *(f"pvc:{claim}" for claim in claims)]), "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pod:
    """One worker's pod; a worker may have had several."""

    uid: str
    name: str
    index: int
    created: float
    phase: str = "Pending"  # Or "Running", "Succeeded", "Failed".
    node: str = ""
    deleting: bool = False
    gone: bool = False  # Deleted; this is how it was last seen.
    ready: bool = False
    scheduled: float | None = None
    started: float | None = None
    finished: float | None = None
    taken: float | None = None  # When Kubernetes, or somebody, began to take it away.
    exit_code: int | None = None
    reason: str = ""  # Why it ended, in one word of Kubernetes': "OOMKilled", "Evicted".
    detail: str = ""  # What Kubernetes says beside it.
    waiting: tuple[str, str] | None = None  # Why its container does not start: a word and a sentence.
    unschedulable: str = ""  # What the scheduler says.
    held: tuple[str, str] | None = None  # Why the scheduler does not even try: a word and a sentence.
    disruption: tuple[str, str] | None = None  # Why Kubernetes took it away: a word and a sentence.
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # Its termination message.

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
        """When it ended or was taken away; when it was made, where nobody told."""
        return next(time for time in (self.finished, self.taken, self.created) if time is not None)

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
        """Reads the API's object."""
        metadata, status = item["metadata"], item.get("status", {})
        conditions = {c["type"]: c for c in status.get("conditions", ())}
        scheduled, disruption = conditions.get("PodScheduled", {}), conditions.get("DisruptionTarget", {})
        container: dict[str, Any] = next((c for c in status.get("containerStatuses", ()) if c["name"] == "worker"), {})
        state = container.get("state", {})
        terminated, waiting, running = (state.get(key) or {} for key in ("terminated", "waiting", "running"))
        asked = seconds(metadata.get("deletionTimestamp"))  # When its time to leave is over.
        if asked is not None:
            asked -= metadata.get("deletionGracePeriodSeconds") or 0
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
            ready=conditions.get("Ready", {}).get("status") == "True",
            scheduled=seconds(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None,
            # A container that could not be started has the year 1970.
            started=seconds(running.get("startedAt") or terminated.get("startedAt")) or None,
            finished=seconds(terminated.get("finishedAt")),
            taken=(seconds(disruption.get("lastTransitionTime")) if disrupted else None) or asked,
            exit_code=terminated.get("exitCode"),
            reason=status.get("reason") or terminated.get("reason", ""),
            detail=status.get("message", ""),
            waiting=(waiting.get("reason", ""), waiting.get("message", "")) if waiting else None,
            unschedulable=scheduled.get("message", "") if why == "Unschedulable" else "",
            held=(why, scheduled.get("message", "")) if why not in ("", "Unschedulable") else None,
            disruption=(disruption["reason"], disruption.get("message", "")) if disrupted else None,
            facts=_facts(terminated.get("message", "")),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warned:
    """A warning event."""

    about: str  # The object's kind and name, "Pod mnist-train-1a2b3c4d-0-xyz12".
    uid: str  # The object's.
    reason: str
    message: str
    time: float

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Self:
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
    """Everything at one moment."""

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
        """When the run ended: with its chief, where it succeeded and that is known."""
        return self.done.finished if self.done and self.done.finished else self.job.finished

    @property
    def done(self) -> Pod | None:
        """The chief's pod, if it has brought the run to its end: the Job says so a little later."""
        chief = self.current().get(0)
        return chief if chief is not None and chief.exit_code == 0 and self.job.ended != "failed" else None


def concerns(event: Mapping[str, Any], job: str) -> bool:
    """Whether an event is about the Job of that name, a pod of it, or what Kueue made of it."""
    about = event["involvedObject"].get("name", "")
    if event["involvedObject"].get("kind") == "Workload":
        return bool(about.startswith(f"job-{job}-"))
    return about == job or bool(about.startswith(f"{job}-"))


def in_order(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """Oldest first; of two made in the same second the one that has ended."""
    return tuple(sorted(pods, key=lambda pod: (pod.created, pod.finished or float("inf"), pod.index)))


def seconds(stamp: str | None) -> float | None:
    """Unix time of an RFC 3339 time stamp."""
    return datetime.datetime.fromisoformat(stamp).timestamp() if stamp else None


def _facts(message: str) -> Mapping[str, Any]:
    try:
        value = json.loads(message)
    except ValueError:
        return {"errors": message.splitlines()[-5:]} if message else {}
    return value if isinstance(value, dict) else {}
