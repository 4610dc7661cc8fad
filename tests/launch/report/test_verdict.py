"""How a run ended and why, from what was seen."""

from typing import Any

import pytest

from tests.support.run_objects import SPENT, failed, pod, running, seen, warned
from trainer.core.exit_codes import meaning
from trainer.launch.codes import LaunchCode
from trainer.launch.report.time_spent import TimeSpent
from trainer.launch.report.verdict import duration
from trainer.launch.report.watched_run import End, verdict_without_news, watched_verdict

POLICY: dict[str, Any] = {"ended": "failed", "reason": "PodFailurePolicy", "message": "exit code 64", "finished": 60.0}
BACKOFF: dict[str, Any] = {"ended": "failed", "reason": "BackoffLimitExceeded", "message": "too many", "finished": 60.0}


def test_success_has_its_figures() -> None:
    result = {"val_accuracy": 0.98123, "workers": 2, "epochs": 5, "steps": 2340, "images_per_second": 41000.0}
    chief = running(0, phase="Succeeded", exit_code=0, finished=90.0, facts={**result, "restarts": 1})
    lost_one = pod(1, exit_code=137, phase="Failed", gone=True, disruption=("EvictionByEvictionAPI", "Eviction API"))
    verdict = watched_verdict(seen(chief, lost_one, running(1, number=1), ended="complete"), End.JOB, SPENT)
    assert verdict.code == LaunchCode.DONE
    assert verdict.headline == "succeeded: run reached validation accuracy 0.9812 in 1 min 40 s"
    assert verdict.lines == (
        "2 worker(s), 5 epoch(s), 2340 steps, 41,000 examples/s, 1 restart(s)",
        "worker 1 on node2 was evicted (a drain, or another request to evict it): Eviction API; its pod was replaced",
        "time: queued 1 s, starting 10 s, rendezvous 9 s, training 1 min 10 s, lost to failures 10 s; goodput 70%",
    )
    assert verdict.facts["result"]["steps"] == 2340


def test_success_says_why_the_run_ended_early() -> None:
    end = {"by": "early_stopping", "why": "val_loss was 0.05 after epoch 2 and not better in 3 epoch(s) since"}
    best = {"metric": "val_loss", "mode": "min", "epoch": 2, "value": 0.05, "model_epoch": 2}
    facts = {"val_loss": 0.05, "workers": 2, "epochs": 5, "end": end, "best": best}
    chief = running(0, phase="Succeeded", exit_code=0, finished=90.0, facts=facts)
    verdict = watched_verdict(seen(chief, running(1), ended="complete"), End.JOB, SPENT)
    assert verdict.lines[1:3] == (
        "early_stopping ended it after epoch 5: val_loss was 0.05 after epoch 2 and not better in 3 epoch(s) since",
        "best val_loss 0.05 after epoch 2; the model is that of epoch 2",
    )
    assert verdict.facts["result"]["end"] == end


def test_the_first_cause_is_the_worker_that_all_name_not_the_pod_that_kubernetes_saw_first() -> None:
    why = "worker 1 ended with 64 (flags) at step 0: error: --epochs=x"
    bystander = failed(0, 64, 10.0, reason=why, facts={"cause": "stopped", "accused": [1]})
    errors = ["Traceback", "error: --epochs=x"]
    culprit = failed(1, 64, 11.0, reason=why, facts={"cause": "final", "errors": errors, "step": 12})
    verdict = watched_verdict(seen(bystander, culprit, **POLICY), End.JOB, SPENT)
    assert verdict.code == LaunchCode.TRAINING
    assert verdict.text.splitlines()[:-1] == [
        "failed: worker 1 on node2 ended with exit code 64 at step 12",
        "  | Traceback",
        "  | error: --epochs=x",
        "  the job gave up, as a retry would not help (PodFailurePolicy)",
        "  ended because of it: worker 0",
    ]
    assert verdict.facts["first_cause"] == {
        "worker": 1,
        "node": "node2",
        "exit_code": 64,
        "reason": why,
        "errors": ["Traceback", "error: --epochs=x"],
    }


def test_workers_that_each_failed_by_themselves_are_not_called_collateral() -> None:
    facts = {"cause": "final", "step": 0}
    pods = [failed(i, 65, 10.0 + i, reason=f"worker {i} ended with 65", facts=facts) for i in range(3)]
    verdict = watched_verdict(seen(*pods, **{**POLICY, "workers": 3}), End.JOB, SPENT)
    # No error line tells what the code means here.
    assert verdict.headline == (
        f"failed: worker 0 on node1 ended with exit code 65 before its first step ({meaning(65)})"
    )
    assert "failed in the same way: workers 1-2" in verdict.lines


def test_a_crash_loop_names_the_first_crash_and_how_often() -> None:
    pods = [failed(1, 139, 10.0 + 100 * n, number=n, facts={"signal": "SIGSEGV"}) for n in range(3)]
    told_to_go = failed(0, 143, 320.0)
    verdict = watched_verdict(seen(*pods, told_to_go, **BACKOFF), End.JOB, SPENT)
    assert verdict.headline.startswith("failed: worker 1 on node2 ended with exit code 139 (SIGSEGV)")
    assert "worker 1 failed 3 times: the job gave up (BackoffLimitExceeded)" in verdict.lines
    assert "ended because of it: worker 0" in verdict.lines


def test_who_lost_a_peer_follows_the_one_that_crashed_later_by_the_clock() -> None:
    verdict = watched_verdict(seen(failed(0, 75, 10.0), failed(1, 1, 12.0), **BACKOFF), End.JOB, SPENT)
    assert verdict.headline.startswith("failed: worker 1 ")


def test_out_of_memory_and_the_event_behind_it() -> None:
    culprit = failed(1, 137, 10.0, reason="", node="node2")
    killed = pod(0, phase="Failed", exit_code=137, reason="OOMKilled", finished=9.0)
    events = (warned(killed.uid, "SystemOOM", "killed process 42"), warned(killed.uid, "BackOff", "again"))
    verdict = watched_verdict(seen(killed, culprit, warnings=events, **BACKOFF), End.JOB, SPENT)
    assert "ran out of memory (OOMKilled, exit code 137): raise worker.resources.limits.memory" in verdict.headline
    assert "event SystemOOM: killed process 42" in verdict.lines
    assert not any("BackOff" in line for line in verdict.lines if line.startswith("event"))


def test_a_job_that_failed_before_any_worker_ran_never_started() -> None:
    verdict = watched_verdict(seen(pod(0), **{**BACKOFF, "reason": "DeadlineExceeded", "message": ""}), End.JOB, SPENT)
    assert (verdict.code, verdict.goes_on) == (LaunchCode.TIMEOUT, False)
    assert "worker 0: the node pulls the image and starts the container" in verdict.lines
    verdict = watched_verdict(seen(pod(0, gone=True, unschedulable="0/2 nodes"), **BACKOFF), End.JOB, SPENT)
    assert verdict.headline == "never started: run failed before any worker ran"
    assert verdict.code == LaunchCode.NOT_STARTED
    assert verdict.lines[:2] == (
        "Kubernetes: BackoffLimitExceeded: too many",
        "worker 0: no node can take it: 0/2 nodes",
    )
    refused = pod(0, phase="Failed", reason="OutOfcpu", detail="Node didn't have enough resource: cpu")
    verdict = watched_verdict(seen(refused, **BACKOFF), End.JOB, SPENT)
    assert verdict.code == LaunchCode.NOT_STARTED
    assert verdict.headline == "never started: worker 0 on node1 failed: OutOfcpu Node didn't have enough resource: cpu"


def test_pods_that_are_gone_are_not_taken_for_pods_that_never_ran() -> None:
    verdict = watched_verdict(seen(**BACKOFF, failures=7), End.JOB, SPENT)
    assert verdict.code == LaunchCode.TRAINING
    assert verdict.headline == "failed: run failed, and the pods that failed are no longer known"
    ended: dict[str, Any] = {"ended": "failed", "reason": "DeadlineExceeded", "failures": 1}
    assert " was ended after the chart's" in watched_verdict(seen(**ended), End.JOB, SPENT).headline


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
    verdict = watched_verdict(seen(pod(0), pod(1, unschedulable="0/2 nodes")), end, SPENT, limit=30.0, step="3/9")
    assert (verdict.code, verdict.headline) == (code, words)
    assert verdict.goes_on == (end in (End.TIMEOUT, End.INTERRUPTED))
    if end is End.PENDING:
        assert "worker 1: no node can take it: 0/2 nodes" in verdict.lines


def test_who_keeps_the_others_waiting_is_named() -> None:
    waited_for = seen(running(0), running(1), pod(2, unschedulable="0/2 nodes"), pod(3), workers=4)
    verdict = watched_verdict(waited_for, End.PENDING, SPENT, limit=30.0)
    assert verdict.headline == "never started: workers 2-3 of run did not run within --pending_timeout=30 s"


def test_before_the_cluster_has_said_anything() -> None:
    assert verdict_without_news("run-1a2b3c4d", End.INTERRUPTED, 0.0).code == LaunchCode.INTERRUPTED
    verdict = verdict_without_news("run-1a2b3c4d", End.TIMEOUT, 9.0)
    assert verdict.code == LaunchCode.TIMEOUT
    assert verdict.headline == "timed out after --timeout=9 s: the cluster has said nothing of the job run-1a2b3c4d yet"


@pytest.mark.parametrize(
    ("output", "kept"),
    [
        ("", {}),
        ("pvc:runs", {"run": "run-1a2b3c4d-01234567", "output": "pvc:runs"}),
        ("s3://user:password@bucket/runs", {"run": "run-1a2b3c4d-01234567", "output": "s3://bucket/runs"}),
    ],
)
def test_a_program_reads_which_job_it_was_and_where_the_run_is(output: str, kept: dict[str, str]) -> None:
    changes: dict[str, Any] = {"uid": "01234567-89ab", "output": output}
    told = seen(running(0), running(1), **changes)
    over = seen(failed(0, 143, 60.0), running(1), **changes, ended="failed", reason="DeadlineExceeded", finished=60.0)
    verdicts = [watched_verdict(told, end, SPENT, limit=5.0) for end in End if end is not End.JOB]
    for verdict in (*verdicts, watched_verdict(over, End.JOB, SPENT)):
        assert verdict.facts == {"job": "run-1a2b3c4d", **kept}
    assert verdict_without_news("run-1a2b3c4d", End.TIMEOUT, 9.0).facts == {"job": "run-1a2b3c4d"}


def test_the_result_of_a_lost_chief_is_not_made_up() -> None:
    verdict = watched_verdict(seen(ended="complete"), End.JOB, SPENT)
    assert verdict.code == LaunchCode.DONE
    assert verdict.lines[0] == "its result could not be read: the chief's pod is gone"
    silent = running(0, phase="Succeeded", exit_code=0)
    assert (
        "left none in its termination message"
        in watched_verdict(seen(silent, ended="complete"), End.JOB, SPENT).lines[0]
    )


def test_a_job_that_is_deleted_after_its_chief_was_done_has_succeeded() -> None:
    done = running(0, phase="Succeeded", exit_code=0, finished=90.0, facts={"val_accuracy": 0.98})
    verdict = watched_verdict(seen(done, running(1)), End.DELETED, SPENT)
    assert (verdict.code, verdict.headline[:10]) == (LaunchCode.DONE, "succeeded:")
    assert seen(done, running(1)).ended == 90.0
    assert seen(done, ended="failed", finished=80.0).ended == 80.0


def test_time_of_which_nothing_is_known_is_called_so() -> None:
    spent = TimeSpent(queued=0.0, starting=0.0, rendezvous=0.0, training=90.0, lost=10.0, unknown=200.0)
    assert watched_verdict(seen(running(0), ended="complete"), End.JOB, spent).lines[-1] == (
        "time: unknown 3 min 20 s (the chief's log of that time is gone), training 1 min 30 s, "
        "lost to failures 10 s; goodput 90% of the rest"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
