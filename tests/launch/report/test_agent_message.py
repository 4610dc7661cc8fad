"""Termination messages: those of this version, those that 0.1.0 wrote, and those of a version that is not known yet."""

import json
import pathlib
from typing import Any

import pytest

from tests.support.run_objects import SPENT, pod, seen
from trainer.core import format_versions
from trainer.core.causes import Cause
from trainer.launch.cluster.objects import Pod
from trainer.launch.report.agent_message import AgentMessage
from trainer.launch.report.first_cause import find_first_cause
from trainer.launch.report.watched_run import End, watched_verdict

WRITTEN_BY_0_1_0 = pathlib.Path(__file__).parent / "written_by_0_1_0"
BACKOFF: dict[str, Any] = {"ended": "failed", "reason": "BackoffLimitExceeded", "message": "many", "finished": 6000.0}
MESSAGE = {
    "format": 2, "worker": 1, "attempt": 3, "exit_code": 137, "meaning": "ended by SIGKILL", "reason": "it was frozen",
    "cause": "frozen", "accused": [], "killed_by_agent": True, "run": "run-1a2b3c4d-01234567", "output": "s3://b/runs",
    "signal": "SIGKILL", "step": 7, "restarts": 3, "errors": ["one", "two"],
}  # fmt: skip


def of(message: dict[str, Any], index: int = 1) -> Pod:
    """A pod that ended with this message."""
    code = int(message.get("exit_code", 1))
    return pod(index, phase="Failed", started=2.0, finished=10.0 + index, exit_code=code, facts=message)


def old(name: str) -> dict[str, Any]:
    """A message that 0.1.0 wrote."""
    return dict(json.loads((WRITTEN_BY_0_1_0 / f"{name}.json").read_text()))


def test_the_fields_of_a_message() -> None:
    assert AgentMessage.of(of(MESSAGE)) == AgentMessage(
        reason="it was frozen", cause=Cause.FROZEN, killed_by_agent=True, signal="SIGKILL", step=7, restarts=3,
        errors=("one", "two"),
    )  # fmt: skip
    assert AgentMessage.of(of({**MESSAGE, "accused": [0, 2]})).accused == (0, 2)


@pytest.mark.parametrize(
    "fields",
    [{"cause": None}, {"cause": "a new one"}, {"accused": 3}, {"accused": ["x", True, 1]}, {"killed_by_agent": "yes"},
     {"step": "7"}, {"restarts": None}, {"errors": "one"}, {"signal": None}, {"reason": 5}],
)  # fmt: skip
def test_a_field_that_cannot_be_read_is_unknown(fields: dict[str, Any]) -> None:
    (name,) = fields
    assert getattr(AgentMessage.of(of({**MESSAGE, **fields})), name) == getattr(AgentMessage(), name)


@pytest.mark.parametrize("version", [format_versions.TERMINATION_MESSAGE + 1, "three", 0, True, None])
def test_a_message_of_a_newer_format_is_shown_and_decides_nothing(version: object) -> None:
    message = {**MESSAGE, "format": version, "accused": [0], "exit_code": 1}
    assert AgentMessage.of(of(message)) == AgentMessage(reason="it was frozen")
    verdict = watched_verdict(seen(of(message), **BACKOFF), End.JOB, SPENT)
    assert verdict.headline == "failed: worker 1 on node2 ended with exit code 1"
    assert verdict.lines[0] == "its agent said: it was frozen"


@pytest.mark.parametrize(
    ("name", "headline", "first_line"),
    [
        (
            "data_missing",
            "failed: worker 0 on node1 ended with exit code 65 before its first step",
            "| error: --data_dir=/nowhere is not a folder; it must hold {train,t10k}-images-idx3-ubyte and "
            "{train,t10k}-labels-idx1-ubyte, each with or without .gz",
        ),
        (
            "frozen",
            "failed: worker 1 on node2 ended with exit code 137 at step 7 "
            "(SIGKILL, by the kernel for want of memory if nobody else sent it)",
            "its agent said: worker 1's training process was frozen at step 7 and was killed; crashes since the last "
            "newer checkpoint: 4, --max_restarts=3",
        ),
        (
            "told_to_go",
            "failed: worker 1 on node2 ended with exit code 143 before its first step (SIGTERM)",
            "its agent said: worker 1 was told to go (SIGTERM)",
        ),
        (
            "did_not_come",
            "failed: worker 0 on node1 ended with exit code 75 before its first step",
            "its agent said: worker 1 of 2 did not come within --rendezvous_timeout=600 s",
        ),
    ],
)
def test_what_0_1_0_wrote_is_said_as_far_as_it_goes(name: str, headline: str, first_line: str) -> None:
    message = old(name)
    verdict = watched_verdict(seen(of(message, message["worker"]), **BACKOFF), End.JOB, SPENT)
    assert verdict.headline == headline
    assert verdict.lines[0] == first_line


def test_a_process_that_was_killed_for_its_memory_needs_no_word_of_its_agent() -> None:
    killed = pod(0, phase="Failed", started=2.0, finished=9.0, exit_code=137, reason="OOMKilled", facts=old("killed"))
    verdict = watched_verdict(seen(killed, **BACKOFF), End.JOB, SPENT)
    assert verdict.headline == (
        "failed: worker 0 on node1 ran out of memory before its first step (OOMKilled, exit code 137): "
        "raise worker.resources.limits.memory"
    )
    assert verdict.lines[0] == "the job gave up (BackoffLimitExceeded)"


@pytest.mark.parametrize("name", ["bystander", "did_not_come"])
def test_the_sentences_of_0_1_0_accuse_nobody(name: str) -> None:
    cause = find_first_cause(seen(of(old(name), 0), **BACKOFF))
    assert cause is not None
    assert cause.workers == (0,)
