"""The coordinator of a run, in worker 0's agent: who is there, when an attempt begins, why it is over."""

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

from trainer.agent.begun_attempt import BegunAttempt
from trainer.agent.messages import Begin, Ended, Failure, Finish, Join, Over
from trainer.agent.restart_budget import RestartBudget
from trainer.agent.shared_settings import SharedSettings
from trainer.core.causes import CRASHES, Cause
from trainer.core.exit_codes import ExitCode, rule

_TICK = 0.5  # Seconds between looks at clocks and at whether an asking agent is still there.


class Coordinator:
    """What all agents of a run ask. Every method may be called from any thread.

        GATHERING  agents ask to join, and wait
            |  ^
            |  |   all wait, or --min_workers of them have waited for --elastic_wait: all are answered with `Begin`
            v  |
        RUNNING    agents hold on to the attempt
            |  |
            |  +-- back to GATHERING with the first report that it is over: an agent asks to join again and says how it
            |      ended, an agent lets go of it, a successor asks, worker 0 is done: all are answered with `Over`
            v
        FINISHED   from either: a report that ends all, workers told different things, workers that do not come in time
                   or only lose each other, or worker 0's agent says so: all are answered with `Finish`, for ever

    An attempt that is over is closed, and its line written, only when the next one begins or the run is finished. Until
    then a report may still name a better cause: that a peer was lost is often heard before the loss itself.
    """

    def __init__(
        self,
        *,
        workers: int,
        min_workers: int,
        elastic_wait: float,
        timeout: float,
        max_restarts: int,
        last_attempt: Callable[[], int],
        saved_step: Callable[[], int],
        on_news: Callable[[str], None],
        on_closed: Callable[[Begin, Over, Failure | None], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begins to gather.

        Args:
          workers: how many there are.
          min_workers: with how many an attempt may begin when others are missing; 0: all.
          elastic_wait: seconds for which it waits for the missing ones all the same.
          timeout: seconds after which a rendezvous that is not complete ends the run.
          max_restarts: failed attempts without a newer saved step that are followed by another.
          last_attempt: the highest number used so far, as far as the run directory tells.
          saved_step: the step of the newest checkpoint.
          on_news: called with a sentence for a person when it is known, or known better, why an attempt is over.
          on_closed: called once an attempt, when all is known of how it ended.
          clock: seconds, as `time.monotonic`.
        """
        self._workers, self._min_workers, self._elastic_wait = workers, min_workers or workers, elastic_wait
        self._timeout, self._clock = timeout, clock
        self._on_news, self._on_closed = on_news, on_closed
        self._shared = SharedSettings(workers)
        self._budget = RestartBudget(max_restarts, saved_step)
        self._last_attempt, self._highest = last_attempt, 0
        self._changed = threading.Condition()
        self._waiting: dict[int, _Waiter] = {}  # By worker.
        self._gathering_since: float | None = None  # When the first of them came, or the last attempt was over.
        self._attempt: BegunAttempt | None = None  # The last that began.
        self._finish: Finish | None = None  # The answer to everybody once the run is finished.
        self._unanswered: set[int] = set()  # The other workers that have not heard it.

    def meet(self, join: Join, gone: Callable[[], bool] = lambda: False) -> Begin | Finish:
        """Waits until the next attempt begins or there is none for this agent.

        Args:
          join: who asks, and how its last attempt ended.
          gone: whether the asking agent has stopped waiting.
        """
        with self._changed:
            if (answer := self._answer_at_once(join)) is not None:
                return answer
            waiter = self._waiting[join.index] = _Waiter(join)
            if self._gathering_since is None:
                self._gathering_since = self._clock()
            self._decide()
            while waiter.answer is None:
                self._changed.wait(_TICK)
                if gone() and waiter.answer is None:
                    if self._waiting.get(join.index) is waiter:
                        del self._waiting[join.index]
                    return Finish(code=ExitCode.PEER_LOST, reason="it stopped waiting")
                self._decide()
            return waiter.answer

    def hold(self, index: int, token: str, attempt: int, gone: Callable[[], bool] = lambda: False) -> Over:
        """Waits until an attempt is over; an agent that stops holding on to its attempt ends it."""
        with self._changed:
            held = self._attempt
            if held and held.number == attempt:
                while held.runs_with(index, token):
                    self._changed.wait(_TICK)
                    if gone() and index not in self._waiting and self._attempt is held:
                        self._report(index, Ended(cause=Cause.AGENT_LOST, attempt=attempt))
                if held.over:
                    return held.over
        return Over(attempt=attempt, cause=Cause.STOPPED, reason=f"attempt {attempt} is long over")

    def asked_to_join(self) -> bool:
        """Whether a worker that is missing in the running attempt waits for the next."""
        with self._changed:
            attempt = self._attempt
            return attempt is not None and attempt.over is None and not self._waiting.keys() <= attempt.members.keys()

    def done(self, ended: Ended) -> None:
        """Worker 0's training process has written the result: the attempt is over."""
        with self._changed:
            self._report(0, ended)

    def conclude(self, finish: Finish) -> None:
        """Answers everybody, now and from now on, with `finish`."""
        with self._changed:
            self._finish_run(finish)

    def answered(self, index: int) -> None:
        """A `Finish` has been sent to a worker."""
        with self._changed:
            self._unanswered.discard(index)
            self._changed.notify_all()

    def wait_until_answered(self, timeout: float) -> None:
        """Waits, at most `timeout` seconds, until all other workers that may ask have heard how the run ended."""
        with self._changed:
            self._changed.wait_for(lambda: not self._unanswered, timeout)

    def close(self) -> None:
        """Closes the last attempt with what is known of it."""
        with self._changed:
            self._close_attempt()

    def _answer_at_once(self, join: Join) -> Begin | Finish | None:
        """Takes in what an agent says that asks to join; returns its answer if it need not wait for one."""
        if self._finish is not None:
            return self._finish
        self._replace_waiter(join)
        attempt = self._attempt
        if attempt and attempt.runs_with(join.index, join.token) and join.ended.attempt < attempt.number:
            return attempt.begin  # It was in this attempt from the start: the answer that said so was lost.
        self._highest = max(self._highest, join.ended.attempt)
        reason, accused = join.ended.described(join.index), (join.index,)
        fatal = join.ended.cause is Cause.FATAL and join.index < self._workers
        if fatal:  # Before its flags are compared: they may be what is wrong.
            self._report_by(join)
            return self._finish_run(Finish(code=join.ended.code, reason=reason, accused=accused))
        if conflict := self._shared.conflict_with(join):
            return self._finish_run(Finish(code=ExitCode.USAGE, reason=conflict, accused=accused))
        self._report_by(join)
        if join.ended.cause is Cause.LEFT:
            return Finish(code=ExitCode.TERMINATED, reason=reason, accused=accused)
        if join.ended.cause in CRASHES and self._budget.spent_by(join.ended.attempt):
            reason += (
                f"; crashes since the last newer checkpoint: {self._budget.failures}, "
                f"--max_restarts={self._budget.most}"
            )
            return Finish(code=join.ended.code, reason=reason, accused=accused)
        return None

    def _replace_waiter(self, join: Join) -> None:
        """Sends away the agent that waits in the name of a worker, when another one asks in the same name."""
        waiter = self._waiting.get(join.index)
        if waiter and waiter.join.token != join.token:
            reason = f"another agent has taken the place of worker {join.index}"
            waiter.answer = Finish(code=ExitCode.PEER_LOST, reason=reason)
            self._changed.notify_all()

    def _report_by(self, join: Join) -> None:
        """What the arrival of an agent says of the attempt that runs, or that is over and not yet closed."""
        attempt = self._attempt
        if attempt is None or join.index not in attempt.members:
            return
        if join.token != attempt.members[join.index]:  # A successor: the agent that was in the attempt is gone.
            self._report(join.index, Ended(cause=Cause.AGENT_LOST, attempt=attempt.number))
            return
        if join.ended.attempt != attempt.number:
            return
        if join.ended.cause is Cause.DONE and join.index != 0:
            return  # It waits for worker 0, which writes the result.
        self._report(join.index, join.ended)

    def _report(self, index: int, ended: Ended) -> None:
        """A worker's end ends the attempt, or tells better than the one before why it is over."""
        attempt = self._attempt
        if attempt is None:
            return
        ran = attempt.over is None
        if not attempt.report(index, ended):
            return
        if ran:
            self._gathering_since = self._clock()
            self._changed.notify_all()
        self._on_news(f"attempt {attempt.number} is over: {ended.described(index)}")

    def _decide(self) -> None:
        """Begins the next attempt, or finishes the run, if it is time for either."""
        running = self._attempt is not None and self._attempt.over is None
        if self._finish or running or self._gathering_since is None:
            return
        waited = self._clock() - self._gathering_since
        missing = [index for index in range(self._workers) if index not in self._waiting]
        enough = 0 in self._waiting and len(self._waiting) >= self._min_workers and waited >= self._elastic_wait
        if not missing or enough:
            self._begin()
        elif waited >= self._timeout and self._waiting:
            reason = (
                f"{_named(missing)} of {self._workers} did not come within --rendezvous_timeout={self._timeout:g} s"
            )
            self._finish_run(Finish(code=ExitCode.PEER_LOST, reason=reason, accused=tuple(missing)))

    def _begin(self) -> None:
        if self._nobody_was_lost() and self._budget.spent_by(self._highest):
            reason = f"workers lose each other in every attempt: {self._budget.failures} without a newer checkpoint"
            self._finish_run(Finish(code=ExitCode.PEER_LOST, reason=f"{reason}; is the training port blocked?"))
            return
        self._close_attempt()
        self._highest = max(self._highest, self._last_attempt()) + 1
        self._attempt = BegunAttempt(
            begin=Begin(attempt=self._highest, present=tuple(sorted(self._waiting))),
            members={index: waiter.join.token for index, waiter in self._waiting.items()},
        )
        self._gathering_since = None
        self._answer_waiting(self._attempt.begin)

    def _nobody_was_lost(self) -> bool:
        """Whether the last attempt ended though every agent and every process in it was well."""
        attempt = self._attempt
        if attempt is None or attempt.failure is None or attempt.failure.ended.cause is not Cause.PEER_LOST:
            return False
        waiting = {index: waiter.join.token for index, waiter in self._waiting.items()}
        return attempt.members.items() <= waiting.items()

    def _finish_run(self, finish: Finish) -> Finish:
        """Finishes the run, unless it is finished already; returns the answer to everybody."""
        if self._finish is not None:
            return self._finish
        self._finish = finish
        self._unanswered = self._to_be_answered(finish.code)
        if self._attempt and self._attempt.over is None:
            ends = rule(finish.code)
            cause = ends.cause if ends.ends_all else Cause.STOPPED
            self._attempt.over = Over(
                attempt=self._attempt.number, cause=cause, reason=finish.reason, accused=finish.accused
            )
        self._answer_waiting(finish)
        self._close_attempt()
        return finish

    def _to_be_answered(self, code: int) -> set[int]:
        """The other workers that must hear the end of the run before worker 0's agent may leave."""
        workers = set(self._waiting)
        if code == ExitCode.DONE and self._attempt:  # A missing one will find the result by itself.
            workers |= set(self._attempt.members)
        elif code != ExitCode.DONE and rule(code).ends_all:
            workers = set(range(self._workers))
        return workers - {0}

    def _close_attempt(self) -> None:
        attempt = self._attempt
        if attempt and not attempt.closed:
            self._on_closed(attempt.begin, attempt.close(), attempt.failure)

    def _answer_waiting(self, answer: Begin | Finish) -> None:
        for waiter in self._waiting.values():
            waiter.answer = answer
        self._waiting = {}
        self._changed.notify_all()


@dataclasses.dataclass
class _Waiter:
    join: Join
    answer: Begin | Finish | None = None


def _named(workers: Sequence[int]) -> str:
    names = ", ".join(map(str, workers[:10]))
    more = f" and {len(workers) - 10} more" if len(workers) > 10 else ""
    return f"worker {names}" if len(workers) == 1 else f"workers {names}{more}"
