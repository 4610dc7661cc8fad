"""Pods that Kubernetes or somebody took away, in the API's JSON.

These are made up, from the shapes that Kubernetes documents ("Pod disruption conditions", "Node-pressure eviction",
"Pod garbage collection"); what real clusters told lies in `tests/recorded`.
"""

import dataclasses
from typing import Any

import pytest

from tests.support.run_objects import SPENT, job
from trainer.launch.cluster.objects import Job, Pod, Seen, in_order, seconds
from trainer.launch.report.end_of_worker import EndOfWorker
from trainer.launch.report.verdict import Verdict
from trainer.launch.report.watched_run import End, watched_verdict

GIVEN_UP = "2026-01-01T00:30:00Z"
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:10Z"}}
LOW = "The node was low on resource: ephemeral-storage. Threshold quantity: 2Gi, available: 1Gi."


def terminated(code: int, at: str, message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": "Error", "startedAt": "2026-01-01T00:00:10Z", "finishedAt": at,
                           "message": message}}  # fmt: skip


def item(
    index: int,
    state: dict[str, Any],
    *,
    disruption: tuple[str, str] | None = None,
    deleted: str = "",
    grace: int = 30,
    **status: Any,
) -> dict[str, Any]:
    """A pod; it was asked to go `grace` seconds before `deleted`."""
    conditions: list[dict[str, Any]] = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}
    ]
    if disruption:
        reason, message = disruption
        conditions.append({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
                           "lastTransitionTime": "2026-01-01T00:10:00Z"})  # fmt: skip
    metadata: dict[str, Any] = {
        "name": f"run-1a2b3c4d-{index}-abcde",
        "uid": f"p{index}",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"batch.kubernetes.io/job-completion-index": str(index)},
    }
    if deleted:
        metadata |= {"deletionTimestamp": deleted, "deletionGracePeriodSeconds": grace}
    containers = [{"name": "worker", "state": state}]
    return {
        "metadata": metadata,
        "spec": {"nodeName": f"node{index + 1}"},
        "status": {"phase": "Failed", "conditions": conditions, "containerStatuses": containers, **status},
    }


EVICTED = item(
    1,
    terminated(137, "2026-01-01T00:10:01Z"),
    disruption=("TerminationByKubelet", LOW),
    reason="Evicted",
    message=LOW,
)
SHUT_DOWN = item(
    1,
    terminated(143, "2026-01-01T00:10:05Z"),
    disruption=("TerminationByKubelet", "Pod was terminated in response to imminent node shutdown."),
    reason="Terminated",
    message="Pod was terminated in response to imminent node shutdown.",
)
DRAINED = item(
    1,
    terminated(143, "2026-01-01T00:10:05Z", '{"worker": 1, "exit_code": 143, "errors": []}'),
    disruption=("EvictionByEvictionAPI", "Eviction API: evicting"),
    deleted="2026-01-01T00:10:30Z",
)
TAINTED = item(
    1,
    RUNNING,
    disruption=("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"),
    deleted="2026-01-01T00:10:30Z",
    phase="Running",
)
NODE_GONE = item(
    1, RUNNING, disruption=("DeletionByPodGC", "PodGC: node no longer exists"), deleted="2026-01-01T00:10:30Z"
)
PREEMPTED = item(
    1,
    terminated(143, "2026-01-01T00:10:05Z"),
    disruption=("PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod"),
    deleted="2026-01-01T00:10:30Z",
)
FORCED = item(1, RUNNING, deleted="2026-01-01T00:10:00Z", grace=0, phase="Running")


@pytest.mark.parametrize(
    ("lost_pod", "words"),
    [
        (EVICTED, f"was evicted by its node: {LOW}"),
        (SHUT_DOWN, "was ended by its node: Pod was terminated in response to imminent node shutdown."),
        (DRAINED, "was evicted (a drain, or another request to evict it): Eviction API: evicting"),
        (TAINTED, "was taken from its node, which was lost or tainted: Taint manager: deleting due to NoExecute taint"),
        (NODE_GONE, "was removed because its node is gone: PodGC: node no longer exists"),
        (PREEMPTED, "was preempted by a pod of higher priority: default-scheduler: preempting to accommodate a higher "
                    "priority pod"),
        (FORCED, "was deleted"),
        (item(1, RUNNING, reason="SomethingNew", message="why"), "failed: SomethingNew why"),
    ],
)  # fmt: skip
def test_a_lost_pod_has_its_cause(lost_pod: dict[str, Any], words: str) -> None:
    assert EndOfWorker.of_pod(Pod.from_json(lost_pod)).text == words
    # It is no less the headline if it is all that happened, and the pod was last seen before it could fail.
    verdict = judged(gone(lost_pod), gone(item(0, RUNNING, deleted="2026-01-01T00:30:30Z", phase="Running")))
    assert verdict.headline == f"failed: worker 1 on node2 {words}"
    assert "ended because of it: worker 0" in verdict.lines


@pytest.mark.parametrize("lost_pod", [EVICTED, SHUT_DOWN, DRAINED, TAINTED, NODE_GONE, PREEMPTED, FORCED])
def test_a_lost_pod_is_not_blamed_for_a_crash_after_it(lost_pod: dict[str, Any]) -> None:
    crash = Pod.from_json(item(0, terminated(1, "2026-01-01T00:29:00Z", "Traceback\nboom")))
    again = Pod.from_json({**item(1, RUNNING, phase="Running"), "metadata": newer(1)})
    verdict = judged(gone(lost_pod), crash, again)
    assert verdict.headline == "failed: worker 0 on node1 ended with exit code 1"
    assert verdict.lines[1] == "| boom"
    assert (
        f"earlier, worker 1 on node2 {EndOfWorker.of_pod(gone(lost_pod)).text}; its pod was replaced" in verdict.lines
    )
    assert not any(line.startswith("ended because") for line in verdict.lines)


def test_when_a_pod_left() -> None:
    assert Pod.from_json(EVICTED).left == seconds("2026-01-01T00:10:01Z")
    assert Pod.from_json(NODE_GONE).left == seconds("2026-01-01T00:10:00Z")
    assert Pod.from_json({**DRAINED, "status": {"phase": "Running"}}).left == seconds("2026-01-01T00:10:00Z")


def test_a_job_has_ended_when_that_was_decided() -> None:
    def condition(kind: str, at: str) -> dict[str, Any]:
        return {"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": at}

    job_json = {
        "metadata": {"name": "run-1a2b3c4d", "uid": "j", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"completions": 2},
        "status": {"failed": 7, "conditions": [condition("FailureTarget", GIVEN_UP)]},
    }
    decided = Job.from_json(job_json)
    job_json["status"] = {"failed": 9, "conditions": [condition("FailureTarget", GIVEN_UP),
                                                  condition("Failed", "2026-01-01T00:31:00Z")]}  # fmt: skip
    over = Job.from_json(job_json)
    assert (decided.ended, decided.finished, decided.failures) == ("failed", seconds(GIVEN_UP), 7)
    assert (over.ended, over.finished, over.reason) == ("failed", seconds(GIVEN_UP), "BackoffLimitExceeded")


def gone(lost_pod: dict[str, Any]) -> Pod:
    """A pod whose deletion tells how it was last."""
    pod = Pod.from_json(lost_pod)
    return pod if pod.phase == "Failed" else dataclasses.replace(pod, gone=True)


def newer(index: int) -> dict[str, Any]:
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    return {"name": f"run-{index}", "uid": f"q{index}", "creationTimestamp": "2026-01-01T00:11:00Z", "labels": labels}


def judged(*pods: Pod) -> Verdict:
    failed = job(ended="failed", reason="BackoffLimitExceeded", message="many", finished=seconds(GIVEN_UP))
    return watched_verdict(Seen(job=failed, pods=in_order(pods)), End.JOB, SPENT)
