"""What a container leaves behind, as it is written, cut and read; attempts.jsonl as it is read."""

import json
import pathlib
from typing import Any

import pytest

from trainer.agent import finishing
from trainer.agent.coordination.messages import Begin, Ended, Failure, Finish, Over
from trainer.agent.records import attempt_log
from trainer.agent.status import Status
from trainer.core import attempts, termination_message
from trainer.core.attempts import Span
from trainer.core.causes import Cause
from trainer.core.exit_codes import DataError

WRITTEN_BY_0_1_0 = pathlib.Path(__file__).parent / "written_by_0_1_0"
SPAN = Span(step_from=0, step_to=5, rendezvous=0.1, start_up=1.0, training=2.0)


def fields(finish: Finish, ended: Ended, output: str = "") -> dict[str, Any]:
    status = Status(worker=1, workers=4)
    return dict(finishing.termination_fields(finish, ended, status, run="mnist-0123abcd", output=output))


def test_it_says_in_fields_what_programs_need() -> None:
    finish = Finish(code=75, reason="workers 0, 3 of 4 did not come", accused=(3, 0))
    message = fields(finish, Ended(), output="s3://user:secret@bucket/runs")
    assert termination_message.loads(termination_message.dumps(message)) == message
    assert (message["format"], message["cause"], message["accused"]) == (2, None, [0, 3])
    assert (message["run"], message["output"]) == ("mnist-0123abcd", "s3://bucket/runs")
    assert not message["killed_by_agent"]


@pytest.mark.parametrize(("cause", "by_agent"), [(Cause.FROZEN, True), (Cause.HUNG, True), (Cause.CRASH, False)])
def test_it_says_whether_the_agent_killed_the_process(cause: Cause, by_agent: bool) -> None:
    ended = Ended(cause=cause, attempt=2, code=137, step=7)
    message = fields(Finish(code=137, reason=ended.described(1), accused=(1,)), ended)
    assert (message["cause"], message["killed_by_agent"], message["signal"]) == (cause.value, by_agent, "SIGKILL")
    assert message["accused"] == []  # It speaks of itself.


def test_it_drops_the_oldest_error_lines_first() -> None:
    message = {"worker": 1, "exit_code": 1, "errors": [f"line {number} " + "x" * 300 for number in range(20)]}
    text = termination_message.dumps(message)
    assert len(text.encode()) <= termination_message.LIMIT
    kept = json.loads(text)["errors"]
    assert kept == message["errors"][-len(kept) :]  # type: ignore[index]
    assert len(kept) > 5
    assert len(termination_message.dumps({"errors": ["ü" * 9000]})) <= termination_message.LIMIT


def test_it_keeps_what_programs_need_longer_than_what_people_read() -> None:
    ended = Ended(cause=Cause.CRASH, attempt=1, code=1, errors=("e" * 9000,))
    full = fields(Finish(code=1, reason="r" * 9000, accused=tuple(range(3000))), ended)
    text = termination_message.dumps(full)
    assert len(text) <= termination_message.LIMIT
    cut = json.loads(text)
    assert cut["reason"]
    for name in full.keys() - {"reason", "errors"}:
        assert cut[name] == full[name]
    assert len(cut["accused"]) == 100


def test_whatever_it_holds_it_is_short_enough() -> None:
    result = {f"metric {number}": "m" * 100 for number in range(100)}
    assert len(termination_message.dumps(result)) <= termination_message.LIMIT
    assert len(termination_message.dumps({"run": "r" * 9000})) <= termination_message.LIMIT


@pytest.mark.parametrize("path", sorted(WRITTEN_BY_0_1_0.glob("*.json")), ids=lambda path: path.stem)
def test_messages_of_0_1_0_are_read(path: pathlib.Path) -> None:
    message = termination_message.loads(path.read_text())
    assert "format" not in message
    if path.stem == "crash-0":  # Worker 0's in a run that succeeded: the result, as the stand-in writes it.
        assert message["steps"] == 30
    else:
        assert message["worker"] == int(path.stem[-1])


def test_a_message_of_a_newer_format_is_read_as_it_is() -> None:
    """The launcher shows its reason, and takes nothing else from it."""
    fields = {"format": 3, "exit_code": 1, "reason": "it was frozen"}
    assert termination_message.loads(json.dumps(fields)) == fields


def test_what_is_no_message_is_the_end_of_a_log() -> None:
    assert termination_message.loads("") == {}
    assert termination_message.loads("a\nb\n") == {"errors": ["a", "b"]}
    assert termination_message.loads("[1]") == {}


def test_attempts_of_0_1_0_are_read(tmp_path: pathlib.Path) -> None:
    (final,) = attempts.parse((WRITTEN_BY_0_1_0 / "data-attempts.jsonl").read_bytes())
    assert (final["attempt"], Cause(final["ended"]), Cause(final["failure"]["cause"])) == (1, Cause.FATAL, Cause.FATAL)
    crash = (WRITTEN_BY_0_1_0 / "crash-attempts.jsonl").read_bytes()
    (tmp_path / "attempts.jsonl").write_bytes(crash)
    assert attempts.last(tmp_path) == 2
    failure = Failure(worker=1, ended=Ended(cause=Cause.FROZEN, attempt=3, code=137))
    over = Over(attempt=3, cause=Cause.FROZEN, reason="frozen")
    attempt_log.append(tmp_path, attempt_log.record(Begin(attempt=3, present=(0, 1)), over, failure, SPAN))
    assert [line.get("format") for line in attempts.read(tmp_path)] == [None, None, 2]


def test_attempts_of_a_newer_format_are_named_as_such() -> None:
    with pytest.raises(DataError, match=r"a line of attempts\.jsonl is of format 3.*a newer version wrote it"):
        attempts.parse(b'{"attempt": 1}\n{"format": 3, "number": 2}\n')


def test_a_result_is_passed_on_without_the_secrets_in_its_flags(tmp_path: pathlib.Path) -> None:
    own = {"module": "x", "database": "postgres://user:password@host/x?token=secret", "several": ["s3://a:secret@b"]}
    (tmp_path / "result.json").write_text(json.dumps({"steps": 3, "experiment": own}))
    result = finishing._result(tmp_path)
    assert result
    assert result["experiment"] == {"module": "x", "database": "postgres://host/x?…", "several": ["s3://b"]}
    assert result["steps"] == 3


@pytest.mark.parametrize("depth", [100, 300, 900, 960, 990, 100_000])
def test_a_result_that_is_nested_deeply_ends_no_agent(tmp_path: pathlib.Path, depth: int) -> None:
    """It may come from a bucket."""
    (tmp_path / "result.json").write_text('{"steps": 3, "x": ' + "[" * depth + "]" * depth + "}")
    assert json.loads(termination_message.dumps(finishing._result(tmp_path) or {})).keys() <= {"steps", "x"}
