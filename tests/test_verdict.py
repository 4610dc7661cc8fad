"""How a run ended and why, from what was seen."""

from typing import Any

import pytest

from tests.runs import SPENT, failed, pod, running, seen, warned
from trainer.launch_codes import LaunchCode
from trainer.verdict import End, duration, judge

POLICY: dict[str, Any] = {"ended": "failed", "reason": "PodFailurePolicy", "message": "exit code 64", "finished": 60.0}
BACKOFF: dict[str, Any] = {"ended": "failed", "reason": "BackoffLimitExceeded", "message": "too many", "finished": 60.0}


def test_success_has_its_figures() -> None:
    result = {"val_accuracy": 0.98123, "workers": 2, "epochs": 5, "steps": 2340, "images_per_second": 41000.0}
    chief = running(0, phase="Succeeded", exit_code=0, finished=90.0, facts={**result, "restarts": 1})
    lost_one = pod(1, exit_code=137, phase="Failed", gone=True, disruption=("EvictionByEvictionAPI", "Eviction API"))
    verdict = judge(seen(chief, lost_one, running(1, number=1), ended="complete"), End.JOB, SPENT)
    assert verdict.code == LaunchCode.DONE
    assert verdict.headline == "succeeded: run reached validation accuracy 0.9812 in 1 min 40 s"
    assert verdict.lines == (
        "2 worker(s), 5 epoch(s), 2340 steps, 41,000 images/s, 1 restart(s)",
        "worker 1 on node2 was evicted (a drain, or another request to evict it): Eviction API; its pod was replaced",
        "time: queued 1 s, starting 10 s, rendezvous 9 s, training 1 min 10 s, lost to failures 10 s; goodput 70%",
    )
    assert verdict.facts["result"]["steps"] == 2340


def test_the_first_cause_is_the_worker_that_all_name_not_the_pod_that_kubernetes_saw_first() -> None:
    why = "worker 1 ended with 64 (flags) at step 0: error: --epochs=x"
    bystander = failed(0, 64, 10.0, reason=why, facts={"errors": []})
    culprit = failed(1, 64, 11.0, reason=why, facts={"errors": ["Traceback", "error: --epochs=x"], "step": 12})
    verdict = judge(seen(bystander, culprit, **POLICY), End.JOB, SPENT)
    assert verdict.code == LaunchCode.TRAINING
    assert verdict.headline.startswith("failed: worker 1 on node2 ended with exit code 64 (flags, configuration,")
    assert verdict.headline.endswith("at step 12")
    assert verdict.lines[:2] == ("| Traceback", "| error: --epochs=x")
    assert "collateral, ended because of it: worker 0" in verdict.lines
    assert verdict.facts["first_cause"] == {
        "worker": 1,
        "node": "node2",
        "exit_code": 64,
        "errors": ["Traceback", "error: --epochs=x"],
    }


def test_workers_that_each_failed_by_themselves_are_not_called_collateral() -> None:
    pods = [failed(i, 65, 10.0 + i, reason=f"worker {i} ended with 65 (data) at step 0") for i in range(3)]
    verdict = judge(seen(*pods, **{**POLICY, "workers": 3}), End.JOB, SPENT)
    assert verdict.headline.startswith("failed: worker 0 ")
    assert "failed in the same way: workers 1-2" in verdict.lines


def test_a_crash_loop_names_the_first_crash_and_how_often() -> None:
    pods = [failed(1, 139, 10.0 + 100 * n, number=n, facts={"signal": "SIGSEGV"}) for n in range(3)]
    told_to_go = failed(0, 143, 320.0)
    verdict = judge(seen(*pods, told_to_go, **BACKOFF), End.JOB, SPENT)
    assert verdict.headline.startswith("failed: worker 1 on node2 ended with exit code 139 (ended by SIGSEGV)")
    assert "worker 1 failed 3 times: the job gave up (BackoffLimitExceeded)" in verdict.lines
    assert "collateral, ended because of it: worker 0" in verdict.lines


def test_who_lost_a_peer_follows_the_one_that_crashed_later_by_the_clock() -> None:
    verdict = judge(seen(failed(0, 75, 10.0), failed(1, 1, 12.0), **BACKOFF), End.JOB, SPENT)
    assert verdict.headline.startswith("failed: worker 1 ")


def test_out_of_memory_and_the_event_behind_it() -> None:
    culprit = failed(1, 137, 10.0, reason="", node="node2")
    killed = pod(0, phase="Failed", exit_code=137, reason="OOMKilled", finished=9.0)
    events = (warned(killed.uid, "SystemOOM", "killed process 42"), warned(killed.uid, "BackOff", "again"))
    verdict = judge(seen(killed, culprit, warnings=events, **BACKOFF), End.JOB, SPENT)
    assert "ran out of memory (OOMKilled, exit code 137): raise worker.resources.limits.memory" in verdict.headline
    assert "event SystemOOM: killed process 42" in verdict.lines
    assert not any("BackOff" in line for line in verdict.lines if line.startswith("event"))


@pytest.mark.parametrize(
    ("disruption", "words"),
    [
        ("PreemptionByScheduler", "preempted by a pod of higher priority"),
        ("DeletionByTaintManager", "taken from its node, which was lost or tainted"),
        ("SomethingNew", "was SomethingNew"),
    ],
)
def test_disruptions_have_words(disruption: str, words: str) -> None:
    taken = failed(1, 137, 5.0, disruption=(disruption, ""))
    assert words in judge(seen(running(0), taken, **BACKOFF), End.JOB, SPENT).headline


def test_a_job_that_failed_before_any_worker_ran_never_started() -> None:
    verdict = judge(seen(pod(0), **{**BACKOFF, "reason": "DeadlineExceeded", "message": ""}), End.JOB, SPENT)
    assert verdict.code == LaunchCode.TIMEOUT
    verdict = judge(seen(**BACKOFF), End.JOB, SPENT)
    assert (verdict.code, verdict.headline[:14]) == (LaunchCode.NOT_STARTED, "never started:")


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        (End.TIMEOUT, LaunchCode.TIMEOUT, "timed out: run has not ended within --timeout=30 s, it goes on at step 3/9"),
        (End.PENDING, LaunchCode.NOT_STARTED, "never started: no worker of run ran within --pending_timeout=30 s"),
        (End.DELETED, LaunchCode.FAILED, "deleted: somebody removed the job run-1a2b3c4d at step 3/9"),
        (End.INTERRUPTED, LaunchCode.INTERRUPTED, "run goes on at step 3/9; only the watching has ended"),
    ],
)
def test_ends_that_are_not_the_jobs(end: End, code: LaunchCode, words: str) -> None:
    verdict = judge(seen(running(0), pod(1, unschedulable="0/2 nodes")), end, SPENT, limit=30.0, step="3/9")
    assert (verdict.code, verdict.headline) == (code, words)
    if end is End.PENDING:
        assert verdict.lines == ("worker 1: no node can take it: 0/2 nodes",)


def test_the_result_of_a_lost_chief_is_not_made_up() -> None:
    verdict = judge(seen(ended="complete"), End.JOB, SPENT)
    assert verdict.code == LaunchCode.DONE
    assert verdict.lines[0] == "its result could not be read: the chief's pod is gone"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
