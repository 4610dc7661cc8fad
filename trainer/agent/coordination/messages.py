"""What agents say to each other in a rendezvous, before every attempt.

An agent asks to join and is answered when all have come: the attempt's number and who is in it. What it says of the
attempt it comes from ends that attempt for everybody. While an attempt runs each agent holds one more request, which
is answered when the attempt is over. There is one leader, fixed by rank: no consensus, no store.

A message is a JSON object. A field that a reader does not know is left out, and one added after 0.1.0 has a default,
so that agents of different versions understand each other.

What is received is checked here, field by field: a message that no agent would send raises ValueError, texts for people
are cut to one line. Nothing behind `from_json` meets another type or a number out of range.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from trainer.core import typed_json
from trainer.core.causes import CRASHES, Cause
from trainer.core.exit_codes import meaning, rule
from trainer.core.run_dir import MOST_ATTEMPTS
from trainer.core.safe_text import one_line
from trainer.core.tf_config import MOST_WORKERS

MOST_BYTES = 2**20  # Of a message.
_MOST_ATTEMPTS = 2 * MOST_ATTEMPTS  # A run goes on above what a bucket's names said.
_MOST_CODE = 255
_MOST_ERRORS = 20  # Lines, the last ones.
_LONGEST_TOKEN = 100


def _known_cause(value: Mapping[str, Any]) -> Cause:
    return Cause(typed_json.text(value, "cause"))


def _accused(value: Mapping[str, Any]) -> tuple[int, ...]:
    return typed_json.wholes({"accused": (), **value}, "accused", most=MOST_WORKERS - 1)


def _token(value: Mapping[str, Any]) -> str:
    token = typed_json.text(value, "token")
    if not 0 < len(token) <= _LONGEST_TOKEN or not token.isprintable():
        raise ValueError(f"token is no text of 1 to {_LONGEST_TOKEN} printable characters")
    return token


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
            case Cause.STARVED:
                return f"worker {worker}'s training process had no data after step {self.step} and was killed"
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
        """Reads what `dataclasses.asdict` made.

        Raises:
          ValueError: no agent says that of itself.
        """
        value = typed_json.an_object(value, "ended")
        cause, code = _known_cause(value), typed_json.whole(value, "code", most=_MOST_CODE)
        by_itself = rule(code).cause
        # Else a forged end could end all workers with any code, or with 0: as if there were a result.
        if (cause is Cause.FATAL and by_itself is not Cause.FATAL) or (cause in CRASHES and by_itself is Cause.DONE):
            raise ValueError(f"the cause {cause.value!r} does not go with the exit code {code}")
        errors = typed_json.texts(value, "errors")[-_MOST_ERRORS:]
        return cls(
            cause=cause,
            attempt=typed_json.whole(value, "attempt", most=_MOST_ATTEMPTS),
            code=code,
            step=typed_json.whole(value, "step"),
            errors=tuple(line for error in errors if (line := one_line(error))),
        )


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
        """Reads what `dataclasses.asdict` made.

        Raises:
          ValueError: no agent asks so.
        """
        value = typed_json.an_object(value, "join")
        workers = typed_json.whole(value, "workers", least=1, most=MOST_WORKERS)
        return cls(
            index=typed_json.whole(value, "index", most=workers - 1),
            workers=workers,
            token=_token(value),
            ended=Ended.from_json(value.get("ended", {})),
            flags=typed_json.texts(value, "flags"),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hold:
    """An agent holds on to the attempt that it takes part in."""

    index: int
    token: str  # As in `Join`.
    attempt: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `dataclasses.asdict` made; raises as `Join.from_json`."""
        return cls(
            index=typed_json.whole(value, "index", most=MOST_WORKERS - 1),
            token=_token(value),
            attempt=typed_json.whole(value, "attempt", least=1, most=_MOST_ATTEMPTS),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Begin:
    """An attempt begins."""

    attempt: int
    present: tuple[int, ...]  # The workers in it, in order.

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `dataclasses.asdict` made; raises ValueError for what no coordinator answers."""
        value = typed_json.an_object(value, "begin")
        return cls(
            attempt=typed_json.whole(value, "attempt", least=1, most=_MOST_ATTEMPTS),
            present=typed_json.wholes(value, "present", most=MOST_WORKERS - 1),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finish:
    """There is no further attempt for the agent that asked: it ends with `code`."""

    code: int
    reason: str
    accused: tuple[int, ...] = ()  # The workers that the reason blames, which may be the one that asked.

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `dataclasses.asdict` made; raises as `Begin.from_json`."""
        value = typed_json.an_object(value, "finish")
        return cls(
            code=typed_json.whole(value, "code", most=_MOST_CODE),
            reason=one_line(typed_json.text(value, "reason")),
            accused=_accused(value),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Over:
    """An attempt is over."""

    attempt: int
    cause: Cause
    reason: str
    accused: tuple[int, ...] = ()  # As in `Finish`.

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `dataclasses.asdict` made; raises as `Begin.from_json`."""
        value = typed_json.an_object(value, "over")
        return cls(
            attempt=typed_json.whole(value, "attempt", least=1, most=_MOST_ATTEMPTS),
            cause=_known_cause(value),
            reason=one_line(typed_json.text(value, "reason")),
            accused=_accused(value),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """What ended an attempt first."""

    worker: int
    ended: Ended
