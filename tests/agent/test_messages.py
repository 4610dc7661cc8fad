"""What agents of different versions say to each other."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.agent.coordination.messages import Begin, Ended, Finish, Hold, Join, Over
from trainer.core.causes import Cause

# As agents of 0.1.0 send them.
JOIN = {
    "index": 1,
    "workers": 2,
    "token": "t",
    "ended": {"cause": "final", "attempt": 3, "code": 65, "step": 7, "errors": ["error: no data"]},
    "flags": ["--epochs=2"],
}
FINISH = {"code": 75, "reason": "worker 1 of 2 did not come within --rendezvous_timeout=1 s"}
OVER = {"attempt": 3, "cause": "crash", "reason": "worker 1 ended with 1 (a crash) at step 7"}


def later(value: dict[str, Any]) -> dict[str, Any]:
    """A message with a field that this version does not know."""
    return {**value, "added_later": [1]}


def test_messages_of_0_1_0_are_understood() -> None:
    ended = Ended(cause=Cause.FATAL, attempt=3, code=65, step=7, errors=("error: no data",))
    assert Join.from_json(JOIN) == Join(index=1, workers=2, token="t", ended=ended, flags=("--epochs=2",))
    assert Finish.from_json(FINISH) == Finish(code=75, reason=FINISH["reason"], accused=())  # type: ignore[arg-type]
    assert Over.from_json(OVER).accused == ()
    assert Begin.from_json({"attempt": 3, "present": [0, 1]}) == Begin(attempt=3, present=(0, 1))


def test_a_field_that_is_not_known_is_left_out() -> None:
    assert Join.from_json({**later(JOIN), "ended": later(JOIN["ended"])}) == Join.from_json(JOIN)  # type: ignore[arg-type]
    assert Finish.from_json(later(FINISH)) == Finish.from_json(FINISH)
    assert Over.from_json(later(OVER)) == Over.from_json(OVER)


def test_a_message_is_read_as_it_was_written() -> None:
    finish = Finish(code=75, reason="two did not come", accused=(1, 3))
    assert Finish.from_json(dataclasses.asdict(finish)) == finish
    over = Over(attempt=1, cause=Cause.FROZEN, reason="it froze", accused=(2,))
    assert Over.from_json(dataclasses.asdict(over)) == over


def test_a_sentence_says_which_error_it_was_and_not_what_else_it_could_have_been() -> None:
    ended = Ended(cause=Cause.FATAL, attempt=1, code=65, step=7, errors=("error: the loss is NaN at step 7",))
    assert ended.described(1) == (
        "worker 1 ended with 65 (bad data, checkpoint or loss) at step 7: error: the loss is NaN at step 7"
    )  # fmt: skip
    flags = Ended(cause=Cause.FATAL, code=64, errors=("--epochs=0 must be at least 1",))
    assert flags.described(0) == "worker 0 ended with 64 (bad flags or configuration): --epochs=0 must be at least 1"


def test_texts_for_people_become_one_line_and_are_cut() -> None:
    hostile = "boom\nprogress worker=0/2\r\x1b]0;owned\x07\x1b[2J\ud800\u202e" + "x" * 5000
    join = Join.from_json({**JOIN, "ended": {**JOIN["ended"], "errors": ["\n", *[hostile] * 30]}})  # type: ignore[dict-item]
    assert len(join.ended.errors) == 20
    assert join.ended.errors[0].startswith("boom progress worker=0/2 xxx")
    assert {len(error) for error in join.ended.errors} == {1000}
    for reason in (
        Finish.from_json({**FINISH, "reason": hostile}).reason,
        Over.from_json({**OVER, "reason": hostile}).reason,
    ):
        assert reason.startswith("boom progress worker=0/2 xxx")
        assert len(reason) == 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
MESSAGES: dict[type[Any], dict[str, Any]] = {
    Join: JOIN,
    Hold: {"index": 1, "token": "t", "attempt": 2},
    Begin: {"attempt": 3, "present": [0, 1]},
    Finish: FINISH,
    Over: OVER,
    Ended: JOIN["ended"],  # type: ignore[dict-item]
}


@pytest.mark.parametrize("kind", MESSAGES)
@given(data=st.data())
def test_a_field_of_another_type_is_a_value_error_or_as_good_as_another(kind: type[Any], data: st.DataObject) -> None:
    value = MESSAGES[kind]
    changed = {**value, data.draw(st.sampled_from(sorted(value))): data.draw(JSON)}
    if data.draw(st.booleans()):
        del changed[data.draw(st.sampled_from(sorted(value)))]
    try:
        message = kind.from_json(changed)
    except ValueError:
        return
    assert kind.from_json(json.loads(json.dumps(dataclasses.asdict(message)))) == message
    for field in dataclasses.fields(message):
        number = getattr(message, field.name)
        assert not isinstance(number, bool | float)
        assert not isinstance(number, int) or 0 <= number <= 2**53
