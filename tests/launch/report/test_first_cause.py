"""Which worker is to blame for a run's end, from how the pods ended and what their agents gave as reasons."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.runs import SPENT, failed, pod, running, seen
from trainer.agent.coordinator import Coordinator
from trainer.agent.messages import Ended, Finish, Join
from trainer.core.causes import Cause
from trainer.launch.cluster.objects import Pod
from trainer.launch.codes import LaunchCode
from trainer.launch.report.verdict import End, Verdict, judge

POLICY: dict[str, Any] = {"ended": "failed", "reason": "PodFailurePolicy", "message": "exit code", "finished": 6000.0}
BACKOFF: dict[str, Any] = {"ended": "failed", "reason": "BackoffLimitExceeded", "message": "many", "finished": 6000.0}


def verdict_on(*pods: Pod, **job: Any) -> Verdict:
    return judge(seen(*pods, **job), End.JOB, SPENT)


def meeting(workers: int) -> Coordinator:
    """One whose time is over when the first has come."""
    return Coordinator(
        workers=workers, min_workers=0, elastic_wait=0.0, timeout=0.0, max_restarts=3, last_attempt=lambda: 0,
        saved_step=lambda: 0, on_news=lambda _: None, on_closed=lambda *_: None,
    )  # fmt: skip


def join(index: int, workers: int, *, cause: Cause = Cause.NEW, flags: tuple[str, ...] = ()) -> Join:
    return Join(index=index, workers=workers, token=f"t{index}", ended=Ended(cause=cause), flags=flags)


def did_not_come(workers: int) -> str:
    answer = meeting(workers).meet(join(0, workers))
    assert isinstance(answer, Finish)
    return answer.reason


def differs() -> str:
    place = meeting(2)
    place.meet(join(0, 2, cause=Cause.LEFT, flags=("--epochs=2",)))  # Who leaves is answered at once.
    answer = place.meet(join(1, 2, flags=("--epochs=3",)))
    assert isinstance(answer, Finish)
    return answer.reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (64, "there is no bucket gone in https://s3.test; create it, or name another --output"),
        (
            74,
            "s3://b/runs lacks model.keras after 300 s of trying at the end (refused); what is missing is still there",
        ),
        (75, "workers lose each other in every attempt: 4 without a newer checkpoint; is the training port blocked?"),
    ],
)
def test_the_agents_own_reason_is_said(code: int, reason: str) -> None:
    verdict = verdict_on(failed(0, code, 10.0, reason=reason, facts={"errors": []}), running(1), **BACKOFF)
    assert verdict.headline.startswith(f"failed: worker 0 on node1 ended with exit code {code} (")
    assert f"its agent said: {reason}" in verdict.lines
    assert verdict.facts["first_cause"]["reason"] == reason


def test_what_the_error_lines_say_is_not_said_twice() -> None:
    ended = Ended(cause=Cause.FATAL, code=65, step=3, errors=("error: no data",))
    reason = ended.described(0)
    facts = {"errors": list(ended.errors)}
    assert not said(verdict_on(failed(0, 65, 10.0, reason=reason, facts=facts), **POLICY), "its agent said")
    crashed = f"{reason}; crashes since the last newer checkpoint: 4, --max_restarts=3"
    assert said(verdict_on(failed(0, 65, 10.0, reason=crashed, facts=facts), **POLICY), "its agent said")


def test_a_worker_whose_flags_differ_is_named_by_all() -> None:
    reason = differs()
    pods = [failed(i, 64, 10.0 + i, reason=reason, facts={"errors": []}) for i in range(2)]
    verdict = verdict_on(*pods, **POLICY)
    assert verdict.headline.startswith("failed: worker 1 on node2 ended with exit code 64")
    assert f"its agent said: {reason}" in verdict.lines
    assert "it alone has --epochs=3, they have --epochs=2" in verdict.text


def test_a_worker_that_did_not_come_is_named_although_its_pod_never_ran() -> None:
    waiting = pod(1, unschedulable="0/2 nodes are available", gone=True)
    witnesses = [failed(0, 75, 600.0 * n, number=n, reason=did_not_come(2)) for n in range(1, 8)]
    verdict = verdict_on(waiting, *witnesses, **BACKOFF)
    assert verdict.code == LaunchCode.TRAINING
    assert verdict.headline == (
        "failed: worker 1 of 2 did not come within --rendezvous_timeout=0 s, "
        "as worker 0 on node1 told (exit code 75)"
    )  # fmt: skip
    assert "worker 1: no node can take it: 0/2 nodes are available" in verdict.lines
    assert "worker 0 failed 7 times: the job gave up (BackoffLimitExceeded)" in verdict.lines
    assert verdict.facts["first_cause"]["worker"] == 1
    assert not said(verdict, "collateral")


def test_workers_that_did_not_come_although_their_pods_ran() -> None:
    witness = failed(0, 75, 600.0, reason=did_not_come(3))
    swept = [failed(i, 143, 6001.0, taken=6000.0) for i in (1, 2)]
    verdict = verdict_on(witness, *swept, **{**BACKOFF, "workers": 3})
    assert verdict.headline.startswith("failed: workers 1, 2 of 3 did not come within --rendezvous_timeout=0 s, as")
    assert "worker 1 on node2 was running" in verdict.lines
    drained = failed(1, 143, 500.0, disruption=("EvictionByEvictionAPI", "Eviction API: evicting"))
    verdict = verdict_on(witness, drained, **{**BACKOFF, "workers": 3})
    assert said(verdict, "worker 1 on node2 was evicted (a drain, or another request to evict it)")


def test_a_worker_that_did_not_come_because_it_crashes_is_named_with_its_crash() -> None:
    crashes = [failed(1, 139, 100.0 * n, number=n) for n in range(1, 6)]
    verdict = verdict_on(*crashes, pod(1, number=7), failed(0, 75, 900.0, reason=did_not_come(2)), **BACKOFF)
    assert verdict.headline.startswith("failed: worker 1 on node2 ended with exit code 139")
    assert "collateral, ended because of it: worker 0" in verdict.lines


@pytest.mark.parametrize("cause", [Cause.FROZEN, Cause.HUNG])
def test_a_worker_that_its_agent_killed_has_not_run_out_of_memory(cause: Cause) -> None:
    reason = Ended(cause=cause, code=137, step=7).described(1) + "; crashes since the last newer checkpoint: 4"
    culprit = failed(1, 137, 10.0, reason=reason, facts={"signal": "SIGKILL", "step": 7})
    verdict = verdict_on(running(0), culprit, **BACKOFF)
    assert verdict.headline == "failed: worker 1 on node2 ended with exit code 137 (ended by SIGKILL), at step 7"
    assert f"its agent said: {reason}" in verdict.lines


def test_a_sigkill_that_nobody_explains_may_be_for_want_of_memory() -> None:
    reason = Ended(cause=Cause.CRASH, code=137, step=7).described(1)
    culprit = failed(1, 137, 10.0, reason=reason, facts={"signal": "SIGKILL"})
    assert "by the kernel for want of memory, if nobody else did it" in verdict_on(culprit, **BACKOFF).headline


def test_workers_that_each_ran_out_of_memory_are_not_collateral() -> None:
    pods = [pod(i, phase="Failed", exit_code=137, reason="OOMKilled", started=2.0, finished=10.0) for i in range(4)]
    verdict = verdict_on(*pods, **{**BACKOFF, "workers": 4})
    assert verdict.headline.startswith("failed: worker 0 on node1 ran out of memory")
    assert "failed in the same way: workers 1-3" in verdict.lines
    assert not said(verdict, "collateral")


def test_a_failure_of_its_own_in_another_way_is_said_and_who_was_told_to_go_is_collateral() -> None:
    pods = (failed(0, 139, 10.0), failed(1, 1, 11.0), failed(2, 137, 40.0, taken=12.0), failed(3, 75, 13.0))
    verdict = verdict_on(*pods, **{**BACKOFF, "workers": 4})
    assert "worker 1 on node2 ended with exit code 1 (a crash), too" in verdict.lines
    assert "collateral, ended because of it: workers 2-3" in verdict.lines


def test_a_crash_from_which_the_run_recovered_is_not_what_ended_it() -> None:
    long_ago = failed(0, 139, 10.0)
    recovered = failed(0, 143, 6001.0, number=1, taken=6000.0)
    loop = [failed(3, 1, 5000.0 + 100 * n, number=50 + n, facts={"errors": ["boom"]}) for n in range(6)]
    verdict = verdict_on(long_ago, recovered, *loop, **{**BACKOFF, "workers": 4})
    assert verdict.headline == "failed: worker 3 on node4 ended with exit code 1 (a crash)"
    assert "worker 3 failed 6 times: the job gave up (BackoffLimitExceeded)" in verdict.lines
    earlier = "earlier, worker 0 on node1 ended with exit code 139 (ended by SIGSEGV); its pod was replaced"
    assert earlier in verdict.lines
    assert "collateral, ended because of it: worker 0" in verdict.lines


def test_a_worker_that_crashed_long_before_in_another_way_or_at_another_step() -> None:
    loop = [failed(1, 139, 5000.0 + 100 * n, number=50 + n, facts={"step": 400}) for n in range(3)]
    verdict = verdict_on(failed(1, 1, 10.0), *loop, **BACKOFF)
    assert verdict.headline.startswith("failed: worker 1 on node2 ended with exit code 139")
    assert "worker 1 failed 3 times: the job gave up (BackoffLimitExceeded)" in verdict.lines
    assert said(verdict, "earlier, worker 1 on node2 ended with exit code 1 ")
    verdict = verdict_on(failed(1, 139, 10.0, facts={"step": 3}), *loop, **BACKOFF)
    assert verdict.headline.endswith("at step 400")
    assert said(verdict, "earlier, worker 1 on node2 ended with exit code 139")


@pytest.mark.parametrize("gone", [lambda: running(1, gone=True), lambda: running(1, gone=True, taken=50.0)])
def test_a_pod_that_is_gone_without_having_ended_is_named(gone: Callable[[], Pod]) -> None:
    swept = running(0, gone=True, taken=6000.0)  # With the job's end.
    verdict = verdict_on(swept, gone(), **BACKOFF)
    assert verdict.headline == "failed: worker 1 on node2 was deleted"
    assert "collateral, ended because of it: worker 0" in verdict.lines


def test_a_container_that_cannot_start_never_ran() -> None:
    words = ["exec: no such file or directory"]
    culprit = pod(0, phase="Failed", exit_code=128, reason="StartError", finished=9.0, facts={"errors": words})
    verdict = verdict_on(culprit, **BACKOFF)
    assert verdict.code == LaunchCode.NOT_STARTED
    assert verdict.headline.startswith("never started: worker 0 on node1 could not start its container (StartError")
    assert verdict.lines[0] == f"| {words[0]}"


def said(verdict: Verdict, words: str) -> bool:
    return any(line.startswith(words) for line in verdict.lines)
