"""Which worker is to blame for a run's end, from how the pods ended and from the fields of their agents' messages."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.support.run_objects import SPENT, failed, pod, running, seen
from trainer.core import exit_codes
from trainer.core.causes import Cause
from trainer.core.exit_codes import ExitCode, ExitRule, PodEnd
from trainer.launch.cluster.objects import Pod
from trainer.launch.codes import LaunchCode
from trainer.launch.report.verdict import Verdict
from trainer.launch.report.watched_run import End, watched_verdict

POLICY: dict[str, Any] = {"ended": "failed", "reason": "PodFailurePolicy", "message": "exit code", "finished": 6000.0}
BACKOFF: dict[str, Any] = {"ended": "failed", "reason": "BackoffLimitExceeded", "message": "many", "finished": 6000.0}
ONE_DID_NOT_COME = "worker 1 of 2 did not come within --rendezvous_timeout=600 s"


def verdict_on(*pods: Pod, **job: Any) -> Verdict:
    return watched_verdict(seen(*pods, **job), End.JOB, SPENT)


def witness(finished: float, accused: list[int], reason: str = ONE_DID_NOT_COME, **changes: Any) -> Pod:
    """Worker 0's pod, whose agent waited in vain."""
    return failed(0, 75, finished, reason=reason, facts={"cause": "peer_lost", "accused": accused}, **changes)


@pytest.mark.parametrize(
    ("code", "cause", "reason"),
    [
        (64, "new", "there is no bucket gone in https://s3.test; create it, or name another --output"),
        (74, "done", "s3://b/runs lacks model.keras after 300 s of trying at the end (refused)"),
        (75, "peer_lost", "workers lose each other in every attempt: 4 without a newer checkpoint"),
        (143, "done", "SIGTERM: the output lacks model.keras, for which the grace period was too short"),
    ],
)
def test_the_agents_own_reason_is_said(code: int, cause: str, reason: str) -> None:
    verdict = verdict_on(failed(0, code, 10.0, reason=reason, facts={"cause": cause}), running(1), **BACKOFF)
    assert verdict.headline.startswith(f"failed: worker 0 on node1 ended with exit code {code}")
    assert f"its agent said: {reason}" in verdict.lines
    assert verdict.facts["first_cause"]["reason"] == reason


@pytest.mark.parametrize(
    ("cause", "pod_end", "blamed"),
    [
        (Cause.CRASH, PodEnd.COUNTED, 0),  # It was the first.
        (Cause.PEER_LOST, PodEnd.COUNTED, 1),
        (Cause.AGREED, PodEnd.IGNORED, 1),
        (Cause.FATAL, PodEnd.FAILS, 2),  # The Job ended by it.
    ],
)
def test_who_is_blamed_follows_from_the_row_of_an_exit_code(
    cause: Cause, pod_end: PodEnd, blamed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = 99  # No other row has it.
    row = ExitRule(
        description="", meaning="new", code=cast(ExitCode, code), cause=cause, pod_end=pod_end, agent="", job=""
    )
    monkeypatch.setitem(exit_codes._RULES, code, row)
    last = failed(2, code, 30.0) if blamed == 2 else running(2)
    pods = (failed(0, code if blamed < 2 else 3, 10.0), failed(1, 3, 20.0), last)
    assert verdict_on(*pods, **{**BACKOFF, "workers": 3}).facts["first_cause"]["worker"] == blamed


def test_what_the_error_lines_say_is_not_said_twice() -> None:
    reason = "worker 0 ended with 65 (data missing or damaged) at step 3: error: no data; crashes: 4, --max_restarts=3"
    facts = {"cause": "crash", "errors": ["Traceback", "error: no data"], "step": 3, "restarts": 3}
    assert verdict_on(failed(0, 1, 10.0, reason=reason, facts=facts), **BACKOFF).text.splitlines()[:-1] == [
        "failed: worker 0 on node1 ended with exit code 1 at step 3",
        "  | Traceback",
        "  | error: no data",
        "  before that, its agent restarted it 3 time(s) in place",
        "  the job gave up (BackoffLimitExceeded)",
    ]


def test_a_worker_whose_flags_differ_is_named_by_all() -> None:
    reason = "the training flags of worker 1 differ from the others': it alone has --epochs=3, they have --epochs=2"
    accused: dict[int, list[int]] = {0: [1], 1: []}
    pods = [failed(i, 64, 10.0 + i, reason=reason, facts={"cause": "new", "accused": accused[i]}) for i in range(2)]
    verdict = verdict_on(*pods, **POLICY)
    assert verdict.headline == "failed: worker 1 on node2 ended with exit code 64"
    assert f"its agent said: {reason}" in verdict.lines
    assert "ended because of it: worker 0" in verdict.lines


def test_a_worker_that_did_not_come_is_named_although_its_pod_never_ran() -> None:
    waiting = pod(1, unschedulable="0/2 nodes are available", gone=True)
    verdict = verdict_on(waiting, *(witness(600.0 * n, [1], number=n) for n in range(1, 8)), **BACKOFF)
    assert verdict.code == LaunchCode.TRAINING
    assert verdict.headline == f"failed: {ONE_DID_NOT_COME} (says worker 0 on node1, which ended with exit code 75)"
    assert "worker 1: no node can take it: 0/2 nodes are available" in verdict.lines
    assert "worker 0 failed 7 times: the job gave up (BackoffLimitExceeded)" in verdict.lines
    assert verdict.facts["first_cause"]["worker"] == 1
    assert not has_line(verdict, "ended because of it")


def test_workers_that_did_not_come_although_their_pods_ran() -> None:
    reason = "workers 1, 2 of 3 did not come within --rendezvous_timeout=600 s"
    swept = [failed(i, 143, 6001.0, taken=6000.0) for i in (1, 2)]
    verdict = verdict_on(witness(600.0, [1, 2], reason), *swept, **{**BACKOFF, "workers": 3})
    assert verdict.headline.startswith(f"failed: {reason} (says worker 0 on node1, ")
    assert "worker 1 on node2 was running" in verdict.lines
    drained = failed(1, 143, 500.0, disruption=("EvictionByEvictionAPI", "Eviction API: evicting"))
    verdict = verdict_on(witness(600.0, [1, 2], reason), drained, **{**BACKOFF, "workers": 3})
    assert has_line(verdict, "worker 1 on node2 was evicted (a drain, or another request to evict it)")


def test_a_worker_that_did_not_come_because_it_crashes_is_named_with_its_crash() -> None:
    crashes = [failed(1, 139, 100.0 * n, number=n) for n in range(1, 6)]
    verdict = verdict_on(*crashes, pod(1, number=7), witness(900.0, [1]), **BACKOFF)
    assert verdict.headline == "failed: worker 1 on node2 ended with exit code 139 (SIGSEGV)"
    assert "ended because of it: worker 0" in verdict.lines


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("frozen", "was frozen, and its agent killed it at step 7 (exit code 137)"),
        ("hung", "made no step for too long, and its agent killed it at step 7 (exit code 137)"),
    ],
)
def test_a_worker_that_its_agent_killed_has_not_run_out_of_memory(cause: str, words: str) -> None:
    reason = f"worker 1's training process was {cause} at step 7 and was killed"
    facts = {"cause": cause, "killed_by_agent": True, "signal": "SIGKILL", "step": 7, "restarts": 3}
    verdict = verdict_on(running(0), failed(1, 137, 10.0, reason=reason, facts=facts), **BACKOFF)
    assert verdict.headline == f"failed: worker 1 on node2 {words}"
    assert not has_line(verdict, "its agent said")
    assert "before that, its agent restarted it 3 time(s) in place" in verdict.lines


def test_a_sigkill_that_nobody_explains_may_be_for_want_of_memory() -> None:
    culprit = failed(1, 137, 10.0, facts={"cause": "crash", "signal": "SIGKILL", "step": 7})
    assert verdict_on(culprit, **BACKOFF).headline == (
        "failed: worker 1 on node2 ended with exit code 137 at step 7 "
        "(SIGKILL, by the kernel for want of memory if nobody else sent it)"
    )


def test_a_worker_whose_process_did_not_leave_in_time_has_not_run_out_of_memory() -> None:
    left = failed(1, 143, 10.0, facts={"cause": "left", "signal": "SIGKILL"})
    assert (
        verdict_on(left, running(0), **BACKOFF).headline
        == "failed: worker 1 on node2 ended with exit code 143 (SIGTERM)"
    )


def test_workers_that_each_ran_out_of_memory_are_all_named() -> None:
    pods = [pod(i, phase="Failed", exit_code=137, reason="OOMKilled", started=2.0, finished=10.0) for i in range(4)]
    verdict = verdict_on(*pods, **{**BACKOFF, "workers": 4})
    assert verdict.headline.startswith("failed: worker 0 on node1 ran out of memory")
    assert "failed in the same way: workers 1-3" in verdict.lines
    assert not has_line(verdict, "ended because of it")


def test_a_failure_of_its_own_in_another_way_is_told_from_those_that_followed() -> None:
    pods = (failed(0, 139, 10.0), failed(1, 1, 11.0), failed(2, 137, 40.0, taken=12.0), failed(3, 75, 13.0))
    verdict = verdict_on(*pods, **{**BACKOFF, "workers": 4})
    assert "worker 1 on node2 ended with exit code 1 (a crash), too" in verdict.lines
    assert "ended because of it: workers 2-3" in verdict.lines


def test_a_crash_from_which_the_run_recovered_is_not_what_ended_it() -> None:
    long_ago = failed(0, 139, 10.0)
    recovered = failed(0, 143, 6001.0, number=1, taken=6000.0)
    loop = [failed(3, 1, 5000.0 + 100 * n, number=50 + n, facts={"errors": ["boom"]}) for n in range(6)]
    verdict = verdict_on(long_ago, recovered, *loop, **{**BACKOFF, "workers": 4})
    assert verdict.headline == "failed: worker 3 on node4 ended with exit code 1"
    assert verdict.lines[0] == "| boom"
    assert "worker 3 failed 6 times: the job gave up (BackoffLimitExceeded)" in verdict.lines
    assert "earlier, worker 0 on node1 ended with exit code 139 (SIGSEGV); its pod was replaced" in verdict.lines
    assert "ended because of it: worker 0" in verdict.lines


def test_a_worker_that_crashed_long_before_in_another_way_or_at_another_step() -> None:
    loop = [failed(1, 139, 5000.0 + 100 * n, number=50 + n, facts={"step": 400}) for n in range(3)]
    verdict = verdict_on(failed(1, 1, 10.0), *loop, **BACKOFF)
    assert verdict.headline.startswith("failed: worker 1 on node2 ended with exit code 139")
    assert "worker 1 failed 3 times: the job gave up (BackoffLimitExceeded)" in verdict.lines
    assert has_line(verdict, "earlier, worker 1 on node2 ended with exit code 1 ")
    verdict = verdict_on(failed(1, 139, 10.0, facts={"step": 3}), *loop, **BACKOFF)
    assert verdict.headline.endswith("at step 400 (SIGSEGV)")
    assert has_line(verdict, "earlier, worker 1 on node2 ended with exit code 139")


@pytest.mark.parametrize("gone", [lambda: running(1, gone=True), lambda: running(1, gone=True, taken=50.0)])
def test_a_pod_that_is_gone_without_having_ended_is_named(gone: Callable[[], Pod]) -> None:
    swept = running(0, gone=True, taken=6000.0)  # With the job's end.
    verdict = verdict_on(swept, gone(), **BACKOFF)
    assert verdict.headline == "failed: worker 1 on node2 was deleted"
    assert "ended because of it: worker 0" in verdict.lines


def test_a_container_that_cannot_start_never_ran() -> None:
    words = ["exec: no such file or directory"]
    culprit = pod(0, phase="Failed", exit_code=128, reason="StartError", finished=9.0, facts={"errors": words})
    verdict = verdict_on(culprit, **BACKOFF)
    assert verdict.code == LaunchCode.NOT_STARTED
    assert verdict.headline.startswith("never started: worker 0 on node1 could not start its container (StartError")
    assert verdict.lines[0] == f"| {words[0]}"


def has_line(verdict: Verdict, words: str) -> bool:
    return any(line.startswith(words) for line in verdict.lines)
