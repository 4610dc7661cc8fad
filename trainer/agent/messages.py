"""Where the agents of a run meet before every attempt: what they say to each other.

An agent asks to join and is answered when all have come: the attempt's number and who is in it. What it says of the
attempt it comes from ends that attempt for everybody. While an attempt runs each agent holds one more request, which
is answered when the attempt is over. There is one leader, fixed by rank: no consensus, no store.
"""

import dataclasses
from typing import Any, Self

from trainer.core.causes import Cause
from trainer.core.exit_codes import meaning


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """How an attempt ended for one worker."""

    cause: Cause = Cause.NEW
    attempt: int = 0
    code: int = 0  # As a shell gives it: 128 + the signal's number for a signal.
    step: int = 0  # The last one seen.
    errors: tuple[str, ...] = ()  # The last lines of standard error.

    def described(self, worker: int) -> str:
        """One sentence for a person, without its full stop."""
        last = f": {self.errors[-1]}" if self.errors else ""
        match self.cause:
            case Cause.LEFT:
                return f"worker {worker} was told to go (SIGTERM)"
            case Cause.AGENT_LOST:
                return f"the agent of worker {worker} is gone"
            case Cause.FROZEN:
                return f"worker {worker}'s training process was frozen at step {self.step} and was killed"
            case Cause.HUNG:
                return f"worker {worker}'s training process made no step after step {self.step} and was killed"
            case Cause.DONE:
                return f"worker {worker} is done"
            case Cause.AGREED:
                return f"all workers stopped at a save, asked by worker {worker}"
            case Cause.STOPPED:
                return f"worker {worker} was stopped by its agent"
        return f"worker {worker} ended with {self.code} ({meaning(self.code)}) at step {self.step}{last}"

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Reads what `dataclasses.asdict` made."""
        return cls(**{**value, "cause": Cause(value["cause"]), "errors": tuple(value["errors"])})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Join:
    """An agent asks to take part in the next attempt."""

    index: int
    workers: int  # How many there are, as far as it knows.
    token: str  # Another one for every agent process.
    ended: Ended
    flags: tuple[str, ...]  # The training flags that must be the same everywhere.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Begin:
    """An attempt begins."""

    attempt: int
    present: tuple[int, ...]  # The workers in it, in order.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finish:
    """There is no further attempt for the agent that asked: it ends with `code`."""

    code: int
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Over:
    """An attempt is over."""

    attempt: int
    cause: Cause
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """What ended an attempt first."""

    worker: int
    ended: Ended
