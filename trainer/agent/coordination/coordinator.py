"""The coordinator of a run, in worker 0's agent: who is there, when an attempt begins, why it is over."""

import threading
import time
from collections.abc import Callable, Collection

from trainer.agent.coordination.begun_attempt import BegunAttempt
from trainer.agent.coordination.messages import Begin, Ended, Failure, Finish, Hold, Join, Over
from trainer.agent.coordination.restart_budget import RestartBudget
from trainer.agent.coordination.shared_settings import SharedSettings
from trainer.agent.coordination.waiting_agents import WaitingAgents
from trainer.core.causes import CRASHES, Cause
from trainer.core.exit_codes import ExitCode, rule


class Coordinator:
    """What all agents of a run ask. Every method may be called from any thread; none waits for agents but the one.

    An agent that asks is answered through a function that it gives, at once or later, from any thread: a request that
    is held for hours costs an entry in a table, and no thread.

        GATHERING  agents ask to join, and wait
            |  ^
            |  |   all wait, or --min_workers of them have waited for --elastic_wait: all are answered with `Begin`
            |  |   (one whose name does not resolve yet is not there yet)
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
        look_up: Callable[[Collection[int]], None] | None = None,
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
          look_up: begins to look up the names of workers, of which `looked_up` tells; None: there are no names.
          clock: seconds, as `time.monotonic`.
        """
        self._workers, self._min_workers, self._elastic_wait = workers, min_workers or workers, elastic_wait
        self._timeout, self._clock = timeout, clock
        self._on_news, self._on_closed = on_news, on_closed
        self._shared = SharedSettings(workers)
        self._budget = RestartBudget(max_restarts, saved_step)
        self._last_attempt, self._highest = last_attempt, 0
        self._changed = threading.Condition()
        self._waiting = WaitingAgents(look_up, clock=clock)
        self._holding: list[Callable[[Over], None]] = []  # The agents that hold on to the attempt that runs.
        self._gathering_since: float | None = None  # When the first of them came, or the last attempt was over.
        self._attempt: BegunAttempt | None = None  # The last that began.
        self._is_done = False  # Whether worker 0 has the result, and brings it to the output.
        self._finish: Finish | None = None  # The answer to everybody once the run is finished.
        self._unanswered: set[int] = set()  # The other workers that have not heard it.

    def meet(self, join: Join, answer: Callable[[Begin | Finish], None]) -> Callable[[], None]:
        """Answers when the next attempt begins or there is none for this agent.

        Args:
          join: who asks, and how its last attempt ended.
          answer: takes the answer.

        Returns:
          What is to be called when the asking agent goes before it is answered.
        """
        with self._changed:
            if (at_once := self._answer_at_once(join)) is not None:
                answer(at_once)
                return lambda: None
            waiter = self._waiting.add(join.index, join.token, answer)
            if self._gathering_since is None:
                self._gathering_since = self._clock()
            self._decide()

        def gone() -> None:
            with self._changed:
                self._waiting.remove(join.index, waiter)

        return gone

    def hold(self, hold: Hold, answer: Callable[[Over], None]) -> Callable[[], None]:
        """Answers when an attempt is over; an agent that stops holding on to its attempt ends it.

        Returns:
          What is to be called when the asking agent goes before it is answered.
        """
        with self._changed:
            held = self._attempt if self._attempt and self._attempt.number == hold.attempt else None
            if held is None or not held.runs_with(hold.index, hold.token):
                long_ago = Over(
                    attempt=hold.attempt, cause=Cause.STOPPED, reason=f"attempt {hold.attempt} is long over"
                )
                answer((held and held.over) or long_ago)
                return lambda: None
            self._holding.append(answer)

        def gone() -> None:
            with self._changed:
                if self._attempt is held and held.over is None and hold.index not in self._waiting:
                    self._report(hold.index, Ended(cause=Cause.AGENT_LOST, attempt=held.number))

        return gone

    def looked_up(self, index: int, problem: str) -> None:
        """The name of a worker resolves, or does not for the given reason."""
        with self._changed:
            self._waiting.looked_up(index, problem)
            self._decide()

    def look(self) -> None:
        """Looks at the clock; to be called about twice a second."""
        with self._changed:
            self._waiting.look()
            self._decide()

    def asked_to_join(self) -> bool:
        """Whether a worker that is missing in the running attempt waits for the next."""
        with self._changed:
            running = self._attempt if self._attempt and self._attempt.over is None else None
            return running is not None and not self._waiting.tokens().keys() <= running.members.keys()

    def done(self, ended: Ended) -> None:
        """Worker 0's training process has written the result: the attempt is over, and none begins after it.

        `conclude` says how the run ends, when the output has the result, however long that takes.
        """
        with self._changed:
            self._is_done = True
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
        """Waits, at most `timeout` seconds, until all other workers that may ask have heard how it ended."""
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
        self._waiting.send_away(join.index, join.token)
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
            self._answer_holding()
        self._on_news(f"attempt {attempt.number} is over: {ended.described(index)}")

    def _decide(self) -> None:
        """Begins the next attempt, or finishes the run, if it is time for either."""
        running = self._attempt is not None and self._attempt.over is None
        if self._finish or running or self._is_done or self._gathering_since is None:
            return
        waited, there = self._clock() - self._gathering_since, self._waiting.there
        enough = self._waiting.is_there(0) and there >= self._min_workers and waited >= self._elastic_wait
        if there == self._workers or enough:
            self._begin()
        elif waited >= self._timeout and self._waiting:
            reason, missing = self._waiting.missed(self._workers, f"within --rendezvous_timeout={self._timeout:g} s")
            self._finish_run(Finish(code=ExitCode.PEER_LOST, reason=reason, accused=missing))

    def _begin(self) -> None:
        if self._nobody_was_lost() and self._budget.spent_by(self._highest):
            reason = f"workers lose each other in every attempt: {self._budget.failures} without a newer checkpoint"
            self._finish_run(Finish(code=ExitCode.PEER_LOST, reason=f"{reason}; is the training port blocked?"))
            return
        self._close_attempt()
        self._highest = max(self._highest, self._last_attempt()) + 1
        members = self._waiting.tokens()
        begin = Begin(attempt=self._highest, present=tuple(members))
        self._attempt = BegunAttempt(begin=begin, members=members)
        self._gathering_since = None
        self._waiting.answer(begin, members)

    def _nobody_was_lost(self) -> bool:
        """Whether the last attempt ended though every agent and every process in it was well."""
        attempt = self._attempt
        if attempt is None or attempt.failure is None or attempt.failure.ended.cause is not Cause.PEER_LOST:
            return False
        return attempt.members.items() <= self._waiting.tokens().items()

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
            self._answer_holding()
        self._waiting.answer(finish, self._waiting.workers)
        self._close_attempt()
        return finish

    def _to_be_answered(self, code: int) -> set[int]:
        """The other workers that must hear the end of the run before worker 0's agent may leave."""
        workers = set(self._waiting.workers)
        if code == ExitCode.DONE and self._attempt:  # A missing one will find the result by itself.
            workers |= set(self._attempt.members)
        elif code != ExitCode.DONE and rule(code).ends_all:
            workers = set(range(self._workers))
        return workers - {0}

    def _close_attempt(self) -> None:
        attempt = self._attempt
        if attempt and not attempt.closed:
            self._on_closed(attempt.begin, attempt.close(), attempt.failure)

    def _answer_holding(self) -> None:
        holding, self._holding = self._holding, []
        for answer in holding:
            if self._attempt and self._attempt.over:
                answer(self._attempt.over)
