"""What agents say to each other in a rendezvous, before every attempt.

An agent asks to join and is answered when all have come: the attempt's number and who is in it. What it says of the
attempt it comes from ends that attempt for everybody. While an attempt runs each agent holds one more request, which
is answered when the attempt is over. There is one leader, fixed by rank: no consensus, no store.

A message is a JSON object. A field that a reader does not know is left out, and one added after 0.1.0 has a default,
so that agents of different versions understand each other.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from trainer.core.causes import Cause
from trainer.core.exit_codes import meaning


def _known(message: type, value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a received message that this version knows."""
    names = {field.name for field in dataclasses.fields(message)}
    return {name: content for name, content in value.items() if name in names}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """How an attempt ended for one worker."""

    cause: Cause = Cause.NEW
    attempt: int = 0
    code: int = 0  # As a shell gives it: 128 + the signal's number for a signal.
    step: int = 0  # The last one seen.
    errors: tuple[str, ...] = ()  # The last lines of standard error.

    def described(self, worker: int) -> str:
        """One sentence for a person, without its full stop, whose subject is the worker."""
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
                return f"all workers stopped at a save, so that a worker can join, as worker {worker} asked"
            case Cause.STOPPED:
                return f"worker {worker} was stopped by its agent"
        when = f" at step {self.step}" if self.attempt else ""
        error = f": {self.errors[-1]}" if self.errors else ""
        return f"worker {worker} ended with {self.code} ({meaning(self.code)}){when}{error}"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `dataclasses.asdict` made."""
        return cls(**{**_known(cls, value), "cause": Cause(value["cause"]), "errors": tuple(value["errors"])})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Join:
    """An agent asks to take part in the next attempt."""

    index: int
    workers: int  # How many there are, as far as it knows.
    token: str  # Another one for every agent process.
    ended: Ended
    flags: tuple[str, ...]  # The training flags that must be the same everywhere.

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `dataclasses.asdict` made."""
        ended, flags = Ended.from_json(value["ended"]), tuple(value["flags"])
        return cls(**{**_known(cls, value), "ended": ended, "flags": flags})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Begin:
    """An attempt begins."""

    attempt: int
    present: tuple[int, ...]  # The workers in it, in order.

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `dataclasses.asdict` made."""
        return cls(**{**_known(cls, value), "present": tuple(value["present"])})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finish:
    """There is no further attempt for the agent that asked: it ends with `code`."""

    code: int
    reason: str
    accused: tuple[int, ...] = ()  # The workers that the reason blames, which may be the one that asked.

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `dataclasses.asdict` made."""
        return cls(**{**_known(cls, value), "accused": tuple(value.get("accused", ()))})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Over:
    """An attempt is over."""

    attempt: int
    cause: Cause
    reason: str
    accused: tuple[int, ...] = ()  # As in `Finish`.

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `dataclasses.asdict` made."""
        cause, accused = Cause(value["cause"]), tuple(value.get("accused", ()))
        return cls(**{**_known(cls, value), "cause": cause, "accused": accused})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """What ended an attempt first."""

    worker: int
    ended: Ended
