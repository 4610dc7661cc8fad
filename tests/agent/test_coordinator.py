"""The coordinator itself; over HTTP, with real agents, it is tested in test_agent.py."""

import concurrent.futures
import dataclasses
import http.client
import json
from typing import Any

import pytest

from trainer.agent.coordination.coordinator import Coordinator
from trainer.agent.coordination.coordinator_http import RemoteCoordinator, authorization
from trainer.agent.coordination.messages import Begin, Ended, Failure, Finish, Hold, Join, Over
from trainer.agent.port.refusals import Refusals
from trainer.agent.port.server import AgentServer
from trainer.agent.pulse import Pulse
from trainer.agent.status import Status
from trainer.core.causes import Cause
from trainer.core.free_ports import free_ports

DEADLINE = 30.0


class Rendezvous:
    """A coordinator, what it told of, and agents that ask it."""

    def __init__(self, **options: Any) -> None:
        self.now, self.saved = 0.0, 0
        self.closed: list[tuple[Begin, Over, Failure | None]] = []
        self.news: list[str] = []
        settings = {"workers": 2, "min_workers": 0, "elastic_wait": 0.0, "timeout": 600.0, "max_restarts": 2}
        self.coordinator = Coordinator(
            **{**settings, "last_attempt": lambda: 0, **options},
            saved_step=lambda: self.saved,
            on_news=self.news.append,
            on_closed=lambda *closed: self.closed.append(closed),
            clock=lambda: self.now,
        )

    def meet(
        self, index: int, cause: Cause = Cause.NEW, attempt: int = 0, *, token: str = "", **changes: Any
    ) -> "concurrent.futures.Future[Begin | Finish]":
        code = {Cause.CRASH: 1, Cause.PEER_LOST: 75, Cause.FATAL: 65}.get(cause, 0)
        ended = Ended(cause=cause, attempt=attempt, code=code)
        join = Join(index=index, workers=2, token=token or f"agent {index}", ended=ended, flags=())
        answer: concurrent.futures.Future[Begin | Finish] = concurrent.futures.Future()
        self.coordinator.meet(dataclasses.replace(join, **changes), answer.set_result)
        return answer

    def hold(self, index: int, attempt: int, *, gone: bool = False) -> "concurrent.futures.Future[Over]":
        answer: concurrent.futures.Future[Over] = concurrent.futures.Future()
        hold = Hold(index=index, token=f"agent {index}", attempt=attempt)
        leave = self.coordinator.hold(hold, answer.set_result)
        if gone:
            leave()
        return answer

    def both(self, first: Cause = Cause.NEW, second: Cause = Cause.NEW, attempt: int = 0) -> list[Begin | Finish]:
        answers = [self.meet(0, first, attempt), self.meet(1, second, attempt)]
        return [answer.result(DEADLINE) for answer in answers]


def test_all_are_answered_alike_and_attempts_are_counted() -> None:
    rendezvous = Rendezvous(last_attempt=lambda: 4)
    assert rendezvous.both() == [Begin(attempt=5, present=(0, 1))] * 2
    assert rendezvous.both(Cause.CRASH, Cause.STOPPED, 5) == [Begin(attempt=6, present=(0, 1))] * 2
    [(begin, over, failure)] = rendezvous.closed
    assert (begin.attempt, over.cause) == (5, Cause.CRASH)
    assert failure
    assert failure.worker == 0


def test_it_goes_on_above_the_highest_attempt_it_is_told() -> None:
    rendezvous = Rendezvous()
    assert rendezvous.both(Cause.NEW, Cause.AGENT_LOST, 7)[0] == Begin(attempt=8, present=(0, 1))


def test_the_cause_is_found_behind_the_peers_that_followed() -> None:
    rendezvous = Rendezvous()
    rendezvous.both()
    holding = rendezvous.hold(0, 1)
    answers = [rendezvous.meet(0, Cause.PEER_LOST, 1)]
    over = holding.result(DEADLINE)
    assert (over.cause, over.accused) == (Cause.PEER_LOST, (0,))
    answers.append(rendezvous.meet(1, Cause.CRASH, 1))
    assert [answer.result(DEADLINE) for answer in answers] == [Begin(attempt=2, present=(0, 1))] * 2
    failure = rendezvous.closed[0][2]
    assert failure
    assert (failure.worker, failure.ended.cause) == (1, Cause.CRASH)
    assert len(rendezvous.news) == 2


def test_an_agent_that_lets_go_ends_the_attempt() -> None:
    rendezvous = Rendezvous()
    rendezvous.both()
    holding = rendezvous.hold(0, 1)
    rendezvous.hold(1, 1, gone=True)
    assert holding.result(DEADLINE).cause is Cause.AGENT_LOST


def test_a_successor_ends_the_attempt_and_sends_the_old_agent_away() -> None:
    rendezvous = Rendezvous()
    rendezvous.both()
    holding = rendezvous.hold(0, 1)
    first = rendezvous.meet(1, token="a successor")
    assert holding.result(DEADLINE).cause is Cause.AGENT_LOST
    second = rendezvous.meet(1, token="another successor")
    answer = first.result(DEADLINE)
    assert isinstance(answer, Finish)
    assert (answer.code, answer.accused) == (75, ())
    assert "another agent has taken the place of worker 1" in answer.reason
    rendezvous.meet(0, Cause.STOPPED, 1)
    assert second.result(DEADLINE) == Begin(attempt=2, present=(0, 1))


def test_an_answer_that_was_lost_is_given_again() -> None:
    rendezvous = Rendezvous()
    rendezvous.both()
    assert rendezvous.meet(1).result(DEADLINE) == Begin(attempt=1, present=(0, 1))


def test_a_newer_checkpoint_resets_the_count_of_crashes() -> None:
    rendezvous = Rendezvous(max_restarts=1)
    rendezvous.both()
    rendezvous.both(Cause.CRASH, Cause.STOPPED, 1)
    rendezvous.saved = 10
    assert isinstance(rendezvous.both(Cause.STOPPED, Cause.CRASH, 2)[1], Begin)
    staying = rendezvous.meet(0, Cause.STOPPED, 3)
    answer = rendezvous.meet(1, Cause.CRASH, 3).result(DEADLINE)
    assert isinstance(answer, Finish)
    assert (answer.code, answer.accused) == (1, (1,))
    assert "--max_restarts=1" in answer.reason
    assert not staying.done()  # The others wait for the successor of the one that gave up.
    rendezvous.meet(1, token="a successor")
    assert isinstance(staying.result(DEADLINE), Begin)


def test_workers_that_only_lose_each_other_do_not_go_on_for_ever() -> None:
    rendezvous = Rendezvous(max_restarts=1)
    rendezvous.both()
    assert isinstance(rendezvous.both(Cause.PEER_LOST, Cause.PEER_LOST, 1)[0], Begin)
    answers = rendezvous.both(Cause.PEER_LOST, Cause.PEER_LOST, 2)
    for answer in answers:
        assert isinstance(answer, Finish)
        assert (answer.code, answer.accused) == (75, ())
        assert "is the training port blocked?" in answer.reason


def test_who_does_not_come_is_named() -> None:
    rendezvous = Rendezvous(workers=4)
    answers = [rendezvous.meet(index, workers=4) for index in (0, 2)]
    rendezvous.now = 601.0
    rendezvous.coordinator.look()
    for answer in answers:
        finish = answer.result(DEADLINE)
        assert isinstance(finish, Finish)
        assert (finish.code, finish.accused) == (75, (1, 3))
        assert "workers 1, 3 of 4 did not come" in finish.reason


def test_with_enough_an_elastic_attempt_begins_and_the_missing_one_is_noticed() -> None:
    rendezvous = Rendezvous(workers=3, min_workers=2, elastic_wait=15.0)
    answers = [rendezvous.meet(index, workers=3) for index in (0, 2)]
    rendezvous.now = 14.0
    rendezvous.coordinator.look()
    assert not any(answer.done() for answer in answers)
    rendezvous.now = 16.0
    rendezvous.coordinator.look()
    assert [answer.result(DEADLINE) for answer in answers] == [Begin(attempt=1, present=(0, 2))] * 2
    assert not rendezvous.coordinator.asked_to_join()
    joining = rendezvous.meet(1, workers=3)
    assert rendezvous.coordinator.asked_to_join()
    rendezvous.meet(0, Cause.AGREED, 1, workers=3)
    rendezvous.meet(2, Cause.PEER_LOST, 1, workers=3)
    assert joining.result(DEADLINE) == Begin(attempt=2, present=(0, 1, 2))


def test_a_worker_that_is_done_waits_for_worker_0() -> None:
    rendezvous = Rendezvous()
    rendezvous.both()
    holding = rendezvous.hold(0, 1)
    done = rendezvous.meet(1, Cause.DONE, 1)
    assert not holding.done()
    rendezvous.meet(0, Cause.CRASH, 1)  # In its last second, before the result was there.
    assert done.result(DEADLINE) == Begin(attempt=2, present=(0, 1))


def test_those_that_hear_late_that_the_run_is_done_hear_it_all_the_same() -> None:
    rendezvous = Rendezvous()
    rendezvous.both()
    rendezvous.coordinator.done(Ended(cause=Cause.DONE, attempt=1))
    rendezvous.coordinator.close()  # Its line is written before the output is complete, and the answer comes after.
    assert rendezvous.hold(1, 1).result(DEADLINE).cause is Cause.DONE
    rendezvous.coordinator.conclude(Finish(code=0, reason="done"))
    assert rendezvous.meet(1, Cause.DONE, 1).result(DEADLINE) == Finish(code=0, reason="done")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rendezvous.coordinator.wait_until_answered, DEADLINE)
        assert not waiting.done()
        rendezvous.coordinator.answered(1)
        waiting.result(DEADLINE)
    assert len(rendezvous.closed) == 1


def test_a_result_may_take_longer_to_the_output_than_workers_to_each_other() -> None:
    rendezvous = Rendezvous(timeout=600.0)
    rendezvous.both()
    rendezvous.coordinator.done(Ended(cause=Cause.DONE, attempt=1))
    waiting = rendezvous.meet(1, Cause.DONE, 1)
    rendezvous.now = 3600.0
    rendezvous.coordinator.look()
    assert not waiting.done()
    rendezvous.coordinator.conclude(Finish(code=0, reason="done"))
    assert waiting.result(DEADLINE) == Finish(code=0, reason="done")


@pytest.mark.parametrize(
    ("changes", "part"),
    [({"workers": 3}, "worker 1 counts 3 workers"), ({"flags": ("--seed=1",)}, "it alone has --seed=1")],
)
def test_workers_that_were_told_different_things_are_refused(changes: dict[str, Any], part: str) -> None:
    rendezvous = Rendezvous()
    first = rendezvous.meet(0)
    for answer in (rendezvous.meet(1, **changes).result(DEADLINE), first.result(DEADLINE)):
        assert isinstance(answer, Finish)
        assert (answer.code, answer.accused) == (64, (1,))
        assert part in answer.reason


def test_a_worker_whose_name_does_not_resolve_is_not_there_yet() -> None:
    asked: list[int] = []
    rendezvous = Rendezvous(look_up=asked.extend)
    answers = [rendezvous.meet(0), rendezvous.meet(1)]
    rendezvous.coordinator.looked_up(0, "")
    rendezvous.coordinator.looked_up(1, "'b': no such name")
    assert not answers[0].done()
    for _ in range(2):
        rendezvous.now += 0.5
        rendezvous.coordinator.look()
    assert asked == [0, 1, 1, 1]  # What resolves is not asked for again.
    rendezvous.coordinator.looked_up(1, "")
    assert [answer.result(DEADLINE) for answer in answers] == [Begin(attempt=1, present=(0, 1))] * 2
    rendezvous.meet(1, Cause.CRASH, 1)
    rendezvous.meet(0, Cause.STOPPED, 1)
    assert asked[4:] == [1, 0]  # A replaced pod has another address, so all are looked up before every attempt.


def test_names_that_do_not_resolve_are_waited_for_as_long_as_workers_and_named() -> None:
    rendezvous = Rendezvous(workers=3, look_up=lambda _: None)
    answers = [rendezvous.meet(index, workers=3) for index in (0, 1)]
    rendezvous.coordinator.looked_up(0, "")
    rendezvous.coordinator.looked_up(1, "'b': no such name")
    rendezvous.now = 599.0
    rendezvous.coordinator.look()
    assert not answers[0].done()
    rendezvous.now = 601.0
    rendezvous.coordinator.look()
    for answer in answers:
        finish = answer.result(DEADLINE)
        assert isinstance(finish, Finish)
        assert (finish.code, finish.accused) == (75, (1, 2))
        within = "within --rendezvous_timeout=600 s"
        assert finish.reason == (
            f"worker 2 of 3 did not come {within}; the name of worker 1 did not resolve {within}: 'b': no such name"
        )


def test_thousands_of_names_that_do_not_resolve_are_not_looked_up_without_a_pause() -> None:
    asked: list[int] = []
    rendezvous = Rendezvous(workers=1000, look_up=asked.extend)
    for index in range(1000):
        rendezvous.meet(index, workers=1000)
    for _ in range(60):
        rendezvous.now += 0.5
        rendezvous.coordinator.look()
    assert 1000 < len(asked) <= 1000 + 30 * 100 + 1000


def test_an_elastic_attempt_begins_without_a_worker_whose_name_does_not_resolve_and_takes_it_in_later() -> None:
    rendezvous = Rendezvous(workers=3, min_workers=2, look_up=lambda _: None)
    answers = [rendezvous.meet(index, workers=3) for index in range(3)]
    for index in (0, 1):
        rendezvous.coordinator.looked_up(index, "")
    assert [answer.result(DEADLINE) for answer in answers[:2]] == [Begin(attempt=1, present=(0, 1))] * 2
    assert not rendezvous.coordinator.asked_to_join()
    rendezvous.coordinator.looked_up(2, "")
    assert rendezvous.coordinator.asked_to_join()


def test_an_agent_that_stops_waiting_is_not_there_any_more() -> None:
    rendezvous = Rendezvous()
    join = Join(index=1, workers=2, token="agent 1", ended=Ended(), flags=())
    gone = rendezvous.coordinator.meet(join, lambda _: None)
    again = rendezvous.coordinator.meet(join, lambda _: None)
    gone()  # Of a request that was replaced.
    again()
    first = rendezvous.meet(0)
    assert not first.done()
    rendezvous.meet(1)
    assert first.done()


def test_questions_over_http() -> None:
    rendezvous = Rendezvous()
    [port] = free_ports(1)
    said: list[str] = []
    errors: list[Exception] = []
    AgentServer(
        port,
        status=Status(worker=0, workers=2),
        coordinator=rendezvous.coordinator,
        token="secret",
        refusals=Refusals(said.append),
        pulse=Pulse(),
        on_error=errors.append,
    ).start()
    remote = RemoteCoordinator(f"127.0.0.1:{port}", timeout=5.0, token="secret", say=said.append)
    join = Join(index=1, workers=2, token="agent 1", ended=Ended(errors=("ü",)), flags=())
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answer = pool.submit(remote.meet, join)
        rendezvous.meet(0)
        assert answer.result(DEADLINE) == Begin(attempt=1, present=(0, 1))
        holding = pool.submit(remote.hold, Hold(index=1, token="agent 1", attempt=1))
        assert isinstance(remote.meet(dataclasses.replace(join, ended=Ended(cause=Cause.LEFT, attempt=1))), Finish)
        assert holding.result(DEADLINE).cause is Cause.LEFT
    for body in (b"{", b"{}", b"[]", json.dumps({"ask": "meet", "join": {"index": 1}}).encode()):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        connection.request("POST", "/rendezvous", body, authorization("secret"))
        assert connection.getresponse().status == 400
        connection.close()
    assert said == []
    assert errors == []
