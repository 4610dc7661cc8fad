"""The agents that wait for the next attempt, on worker 0: one is there when it has asked and its name resolves."""

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence

from trainer.agent.coordination.messages import Begin, Finish
from trainer.core.exit_codes import ExitCode

Answer = Callable[[Begin | Finish], None]
_LOOK_UPS_A_SECOND = 100  # Of names that do not resolve: more would take a cluster's name service from its neighbours.


@dataclasses.dataclass
class Waiter:
    """An agent that has asked to join."""

    token: str
    answer: Answer
    problem: str | None  # Why its name does not resolve, "" where that is not known yet; None: it does.


class WaitingAgents:
    """A table of waiting agents, by worker; whoever has it lets one thread at a time call."""

    def __init__(
        self, look_up: Callable[[Collection[int]], None] | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begins without any.

        Args:
          look_up: begins to look up the names of workers, of which `looked_up` is told; None: there are no names.
          clock: seconds, as `time.monotonic`.
        """
        self._look_up, self._clock = look_up, clock
        self._waiters: dict[int, Waiter] = {}
        self._unnamed: set[int] = set()  # Those whose names do not resolve yet.
        self._look_up_at = 0.0  # When those are looked up again.

    def add(self, index: int, token: str, answer: Answer) -> Waiter:
        """An agent waits."""
        waiter = self._waiters[index] = Waiter(token, answer, problem="" if self._look_up else None)
        if self._look_up:
            self._unnamed.add(index)
            self._look_up([index])
        return waiter

    def remove(self, index: int, waiter: Waiter) -> None:
        """It does not wait any more, unless another one has taken its place."""
        if self._waiters.get(index) is waiter:
            self._pop(index)

    def send_away(self, index: int, token: str) -> None:
        """Answers the agent that waits in the name of a worker, if any does, when one with that token asks again."""
        if index in self._waiters:
            waiter = self._pop(index)
            other = "another agent has taken the place" if waiter.token != token else "there is a later request"
            waiter.answer(Finish(code=ExitCode.PEER_LOST, reason=f"{other} of worker {index}"))

    def looked_up(self, index: int, problem: str) -> None:
        """The name of a worker does not resolve for that reason; "": it does."""
        if index in self._unnamed:
            self._waiters[index].problem = problem or None
            if not problem:
                self._unnamed.discard(index)

    def look(self) -> None:
        """Has the names that do not resolve looked up again, if it is time."""
        if self._unnamed and self._look_up and self._clock() >= self._look_up_at:
            self._look_up_at = self._clock() + len(self._unnamed) / _LOOK_UPS_A_SECOND
            self._look_up(sorted(self._unnamed))

    def answer(self, answer: Begin | Finish, workers: Collection[int]) -> None:
        """Gives these workers, or all that wait, the answer; they wait no longer."""
        for index in list(workers):
            self._pop(index).answer(answer)

    def __contains__(self, index: int) -> bool:
        return index in self._waiters

    def __bool__(self) -> bool:
        return bool(self._waiters)

    @property
    def workers(self) -> Collection[int]:
        """All that wait."""
        return self._waiters.keys()

    @property
    def there(self) -> int:
        """How many of them are there."""
        return len(self._waiters) - len(self._unnamed)

    def is_there(self, index: int) -> bool:
        """Whether a worker's agent waits and its name resolves."""
        return index in self._waiters and index not in self._unnamed

    def tokens(self) -> dict[int, str]:
        """Those that are there, in order, with the tokens of their agents."""
        return {index: self._waiters[index].token for index in sorted(self._waiters.keys() - self._unnamed)}

    def missed(self, workers: int, within: str) -> tuple[str, tuple[int, ...]]:
        """Who of so many workers is not there, in a sentence for a person and by number."""
        missing = [index for index in range(workers) if not self.is_there(index)]
        absent = [index for index in missing if index not in self._waiters]
        parts = [f"{_named(absent)} of {workers} did not come {within}"] if absent else []
        if unnamed := sorted(self._unnamed):
            problem = self._waiters[unnamed[0]].problem or "the name service has not answered"
            names = "the name of" if len(unnamed) == 1 else "the names of"
            parts.append(f"{names} {_named(unnamed)} did not resolve {within}: {problem}")
        return "; ".join(parts), tuple(missing)

    def _pop(self, index: int) -> Waiter:
        self._unnamed.discard(index)
        return self._waiters.pop(index)


def _named(workers: Sequence[int]) -> str:
    names = ", ".join(map(str, workers[:10]))
    more = f" and {len(workers) - 10} more" if len(workers) > 10 else ""
    return f"worker {names}" if len(workers) == 1 else f"workers {names}{more}"
