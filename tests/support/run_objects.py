"""A run's Job and pods as the launcher's objects, made up by tests; `api_objects` has them as the API's JSON."""

from typing import Any

from trainer.launch.cluster.objects import Job, Pod, Seen, Warned, in_order
from trainer.launch.report.time_spent import TimeSpent

SPENT = TimeSpent(queued=1.0, starting=10.0, rendezvous=9.0, training=70.0, lost=10.0)


def job(**changes: Any) -> Job:
    """The Job of a run of two workers, but for `changes`, which are fields of `Job`."""
    return Job(**{"name": "run-1a2b3c4d", "uid": "job", "release": "run", "workers": 2, "created": 0.0, **changes})


def pod(index: int, *, number: int = 0, **changes: Any) -> Pod:
    """The `number`th pod of a worker."""
    name = f"run-1a2b3c4d-{index}-{number}"
    fields = {
        "uid": name,
        "name": name,
        "index": index,
        "created": 100.0 * number,
        "node": f"node{index + 1}",
        **changes,
    }
    return Pod(**fields)


def running(index: int, **changes: Any) -> Pod:
    """A worker's pod that was placed after 1 s and runs since 2 s."""
    return pod(index, **{"phase": "Running", "scheduled": 1.0, "started": 2.0, **changes})


def failed(index: int, code: int, finished: float, *, reason: str = "", **changes: Any) -> Pod:
    """A pod that ended with `code`, and with the message of an agent that accuses nobody unless `facts` say so."""
    message: dict[str, Any] = {
        "format": 2, "worker": index, "attempt": 1, "exit_code": code, "reason": reason, "cause": None, "accused": [],
        "killed_by_agent": False, "run": "run-1a2b3c4d-01234567", "output": "", "signal": None, "restarts": 0,
        "errors": [],
    }  # fmt: skip
    facts = {**message, **changes.pop("facts", {})}
    fields = {"phase": "Failed", "scheduled": 1.0, "started": 2.0, "finished": finished, "exit_code": code, **changes}
    return pod(index, facts=facts, **fields)


def seen(*pods: Pod, warnings: tuple[Warned, ...] = (), **changes: Any) -> Seen:
    """All that a launcher knows at one moment; `changes` are the Job's."""
    return Seen(job=job(**changes), pods=in_order(pods), warnings=warnings)


def warned(uid: str, reason: str, message: str) -> Warned:
    """A warning event about the object with this uid."""
    return Warned(about="", uid=uid, reason=reason, message=message, time=0.0)
