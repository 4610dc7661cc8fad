"""The meeting that worker 0's agent keeps: who is there, when an attempt begins, why it is over."""

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

from trainer.agent.messages import Begin, Ended, Failure, Finish, Join, Over
from trainer.core.causes import CRASHES, FOLLOWS, Cause
from trainer.core.exit_codes import FINAL, ExitCode

_TICK = 0.5  # Seconds between looks at clocks and at whether an asking agent is still there.


class Meeting:
    """The meeting place of a run. Every method may be called from any thread."""

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
        """Opens it.

        Args:
          workers: how many there are.
          min_workers: with how many an attempt may begin after `elastic_wait` seconds.
          elastic_wait: see there.
          timeout: seconds after which a meeting that is not complete ends the run.
          max_restarts: failed attempts without a newer saved step that are followed by another.
          last_attempt: the highest number used so far, as far as the run directory tells.
          saved_step: the step of the newest checkpoint.
          on_news: called with a sentence for a person when it is known, or known better, why an attempt is over.
          on_closed: called once an attempt, when all is known of how it ended.
          clock: seconds, as `time.monotonic`.
        """
        self._workers, self._min_workers, self._elastic_wait = workers, min_workers or workers, elastic_wait
        self._timeout, self._max_restarts = timeout, max_restarts
        self._saved_step, self._on_news, self._on_closed = saved_step, on_news, on_closed
        self._clock = clock
        self._changed = threading.Condition()
        self._last_attempt, self._highest = last_attempt, 0
        self._waiting: dict[int, _Waiter] = {}
        self._since: float | None = None  # When the first of those that wait came, or the last attempt ended.
        self._flags: tuple[str, ...] | None = None  # Of the first to come.
        self._begun: Begin | None = None
        self._members: dict[int, str] = {}  # Index to token.
        self._over: Over | None = None  # How the attempt of `_begun` ended; None while it runs.
        self._first: Failure | None = None
        self._crashes, self._saved_at_crash, self._counted = 0, saved_step(), 0
        self._verdict: Finish | None = None
        self._untold: set[int] = set()  # The other workers that have not heard the verdict.

    def meet(self, join: Join, gone: Callable[[], bool] = lambda: False) -> Begin | Finish:
        """Waits until the next attempt begins or there is none for this agent.

        Args:
          join: who asks, and how its last attempt ended.
          gone: whether the asking agent has stopped waiting.
        """
        with self._changed:
            if (answer := self._arrive(join)) is not None:
                return answer
            waiter = self._waiting[join.index] = _Waiter(join)
            if self._since is None:
                self._since = self._clock()
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
            while self._running(attempt) and self._members.get(index) == token:
                self._changed.wait(_TICK)
                if gone() and index not in self._waiting and self._begun and self._begun.attempt == attempt:
                    self._end(index, Ended(cause=Cause.AGENT_LOST, attempt=attempt))
            if self._over and self._over.attempt == attempt:
                return self._over
        return Over(attempt=attempt, cause=Cause.STOPPED, reason=f"attempt {attempt} is long over")

    def asked_to_join(self) -> bool:
        """Whether a worker that is missing in the running attempt waits for the next."""
        with self._changed:
            return self._begun is not None and self._over is None and not self._waiting.keys() <= self._members.keys()

    def done(self, ended: Ended) -> None:
        """Worker 0's training process has written the result: the attempt is over."""
        with self._changed:
            self._end(0, ended)

    def conclude(self, finish: Finish) -> None:
        """Answers everybody, now and from now on, with `finish`."""
        with self._changed:
            self._conclude(finish)

    def heard(self, index: int) -> None:
        """The answer to a worker has been sent."""
        with self._changed:
            self._untold.discard(index)
            self._changed.notify_all()

    def wait_until_told(self, timeout: float) -> None:
        """Waits, at most `timeout` seconds, until all other workers that may ask have been told how it ended."""
        with self._changed:
            self._changed.wait_for(lambda: not self._untold, timeout)

    def close(self) -> None:
        """Settles what is known of the last attempt."""
        with self._changed:
            self._settle()

    def _arrive(self, join: Join) -> Begin | Finish | None:
        """Takes in what an agent says; returns its answer when it need not wait."""
        if self._verdict:
            return self._verdict
        if (before := self._waiting.get(join.index)) and before.join.token != join.token:
            before.answer = Finish(
                code=ExitCode.PEER_LOST, reason=f"another agent has taken the place of worker {join.index}"
            )
            self._changed.notify_all()
        if self._begun and not self._over and self._members.get(join.index) == join.token:
            unheard = join.ended.attempt < self._begun.attempt  # The answer that said so was lost on its way.
            if unheard:
                return self._begun
        self._highest = max(self._highest, join.ended.attempt)
        if (finish := self._refusal(join)) is not None:
            return finish
        self._take_in(join)
        ended = join.ended
        if ended.cause is Cause.FINAL:
            self._conclude(Finish(code=ended.code, reason=ended.described(join.index)))
            return self._verdict
        if ended.cause is Cause.LEFT:
            return Finish(code=ExitCode.TERMINATED, reason=ended.described(join.index))
        if ended.cause in CRASHES and self._count(ended.attempt) > self._max_restarts:
            return Finish(
                code=ended.code,
                reason=f"{ended.described(join.index)}; crashes since the last newer checkpoint: {self._crashes}, "
                f"--max_restarts={self._max_restarts}",
            )
        return None

    def _refusal(self, join: Join) -> Finish | None:
        if join.ended.cause is Cause.FINAL:  # Its own reason says more.
            return None
        problem = ""
        if not 0 <= join.index < self._workers or join.workers != self._workers:
            problem = (
                f"worker {join.index} counts {join.workers} workers and worker 0 counts {self._workers}; "
                "all must be told the same number"
            )
        elif self._flags is None:
            self._flags = join.flags
        elif join.flags != self._flags:
            extra = " ".join(sorted(set(join.flags) - set(self._flags))) or "none"
            lacking = " ".join(sorted(set(self._flags) - set(join.flags))) or "none"
            problem = (
                f"the training flags of worker {join.index} differ from the others': it alone has {extra}, "
                f"they have {lacking}; give all workers the same"
            )
        if not problem:
            return None
        self._conclude(Finish(code=ExitCode.USAGE, reason=problem))
        return self._verdict

    def _take_in(self, join: Join) -> None:
        """What a newly arrived agent means for the attempt that runs, or that has just ended."""
        if self._begun is None:
            return
        index, ended, attempt = join.index, join.ended, self._begun.attempt
        if index not in self._members:
            return
        if self._members[index] != join.token:
            self._end(index, Ended(cause=Cause.AGENT_LOST, attempt=attempt))
        elif ended.attempt == attempt and not (ended.cause is Cause.DONE and index):
            self._end(index, ended)  # A worker that is done waits for worker 0, which writes the result.

    def _end(self, index: int, ended: Ended) -> None:
        """Ends the attempt, or tells more of why it ended: a lost peer is often reported before the loss itself."""
        if self._begun is None:
            return
        if self._over is None:
            self._over = Over(attempt=self._begun.attempt, cause=ended.cause, reason=ended.described(index))
            self._since = self._clock()
            self._changed.notify_all()
        elif self._first is None or _weight(ended.cause) <= _weight(self._first.ended.cause):
            return
        if ended.cause is not Cause.DONE:
            self._first = Failure(worker=index, ended=ended)
        self._on_news(f"attempt {self._begun.attempt} is over: {ended.described(index)}")

    def _count(self, attempt: int) -> int:
        """The failed attempts, `attempt` included, since a newer step was saved."""
        saved = self._saved_step()
        if saved > self._saved_at_crash:
            self._crashes, self._saved_at_crash = 0, saved
        if attempt != self._counted:
            self._crashes, self._counted = self._crashes + 1, attempt
        return self._crashes

    def _decide(self) -> None:
        if self._since is None or (self._begun is not None and self._over is None) or self._verdict:
            return
        missing = [index for index in range(self._workers) if index not in self._waiting]
        waited = self._clock() - self._since
        enough = 0 in self._waiting and len(self._waiting) >= self._min_workers and waited >= self._elastic_wait
        if not missing or enough:
            self._begin()
        elif waited >= self._timeout and self._waiting:
            names = f"worker {missing[0]}" if len(missing) == 1 else f"workers {_listed(missing)}"
            self._conclude(
                Finish(
                    code=ExitCode.PEER_LOST,
                    reason=f"{names} of {self._workers} did not come within --rendezvous_timeout={self._timeout:g} s",
                )
            )

    def _begin(self) -> None:
        if self._nobody_was_lost() and self._count(self._highest) > self._max_restarts:
            reason = f"workers lose each other in every attempt: {self._crashes} without a newer checkpoint"
            self._conclude(Finish(code=ExitCode.PEER_LOST, reason=f"{reason}; is the training port blocked?"))
            return
        self._settle()
        present = tuple(sorted(self._waiting))
        self._highest = max(self._highest, self._last_attempt()) + 1
        self._begun, self._over, self._first = Begin(attempt=self._highest, present=present), None, None
        self._members = {index: waiter.join.token for index, waiter in self._waiting.items()}
        self._since = None
        self._answer_all(self._begun)

    def _nobody_was_lost(self) -> bool:
        """Whether the last attempt ended though every agent and every process in it was well."""
        return (
            self._first is not None
            and self._first.ended.cause is Cause.PEER_LOST
            and all(
                index in self._waiting and self._waiting[index].join.token == token
                for index, token in self._members.items()
            )
        )

    def _settle(self) -> None:
        if self._begun is None:
            return
        over = self._over or Over(attempt=self._begun.attempt, cause=Cause.AGENT_LOST, reason="the agent of worker 0")
        self._on_closed(self._begun, over, self._first)
        self._begun = None

    def _conclude(self, finish: Finish) -> None:
        if self._verdict:
            return
        self._verdict = finish
        self._untold = set(self._waiting)
        if finish.code in FINAL:
            self._untold = set(range(self._workers))
        elif finish.code == ExitCode.DONE:
            self._untold |= set(self._members)
        self._untold.discard(0)
        if self._begun and self._over is None:
            cause = Cause.DONE if finish.code == 0 else Cause.FINAL if finish.code in FINAL else Cause.STOPPED
            self._over = Over(attempt=self._begun.attempt, cause=cause, reason=finish.reason)
        self._answer_all(finish)
        self._settle()

    def _answer_all(self, answer: Begin | Finish) -> None:
        for waiter in self._waiting.values():
            waiter.answer = answer
        self._waiting = {}
        self._changed.notify_all()

    def _running(self, attempt: int) -> bool:
        return self._begun is not None and self._begun.attempt == attempt and self._over is None


@dataclasses.dataclass
class _Waiter:
    join: Join
    answer: Begin | Finish | None = None


def _weight(cause: Cause) -> int:
    """How near a cause is to the first."""
    return 0 if cause in FOLLOWS else 1 if cause is Cause.AGREED else 2


def _listed(indexes: Sequence[int]) -> str:
    shown = ", ".join(map(str, indexes[:10]))
    return shown + (f" and {len(indexes) - 10} more" if len(indexes) > 10 else "")
