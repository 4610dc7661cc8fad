"""How a run ended that the cluster no longer knows, from the lines that its chief's agent left."""

import pytest

from trainer.agent import attempt_log
from trainer.agent.attempt_log import Span
from trainer.agent.messages import Begin, Ended, Failure, Over
from trainer.core.causes import Cause
from trainer.launch.codes import LaunchCode
from trainer.launch.report.finished_run import judge

SPAN = Span(step_from=0, step_to=70, rendezvous=1.0, start_up=2.0, training=3.0)


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (Ended(cause=Cause.CRASH, code=139, step=70), "worker 1 ended with exit code 139 (ended by SIGSEGV)"),
        (
            Ended(cause=Cause.FROZEN, code=137, step=70),
            "worker 1's training process was frozen at step 70 and was killed",
        ),
        (Ended(cause=Cause.AGENT_LOST), "the agent of worker 1 is gone"),
        (Ended(cause=Cause.LEFT, code=143), "worker 1 was told to go (SIGTERM)"),
    ],
)
def test_the_last_attempt_says_what_happened(ended: Ended, words: str) -> None:
    begin, over = Begin(attempt=3, present=(0, 1)), Over(attempt=3, cause=ended.cause, reason=ended.described(1))
    line = attempt_log.record(begin, over, Failure(worker=1, ended=ended), SPAN)
    verdict = judge("run", "s3://b/runs/run", None, [line])
    assert verdict.code == LaunchCode.TRAINING
    assert verdict.headline == f"not finished: the last attempt of run, its 3., ended at step 70: {words}"


def test_a_run_of_which_nothing_ended() -> None:
    verdict = judge("run", "s3://b/runs/run", None, [])
    assert (verdict.code, verdict.headline[:13]) == (LaunchCode.TRAINING, "not finished:")
