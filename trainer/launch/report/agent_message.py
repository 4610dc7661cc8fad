"""What a worker's agent left in the termination message of its pod.

Only fields are read. The reason is a sentence for people, and nothing is decided by it. A message of 0.1.0, which is of
format 1, has neither a cause nor anybody whom it accuses. A message of a format that is not known here, from a newer
agent, is no error of the run: its reason is shown, the rest counts as unknown.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from trainer.core import format_versions, typed_json
from trainer.core.causes import CRASHES, Cause
from trainer.core.exit_codes import DataError
from trainer.launch.cluster.objects import Pod

_TOLD_BY_EXIT = CRASHES | {Cause.FATAL, Cause.LEFT}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentMessage:
    """How a worker's part in the run ended, as its agent tells it."""

    reason: str = ""  # A sentence for people, without its full stop.
    cause: Cause | None = None  # How this worker's own training process ended; None: not known.
    accused: tuple[int, ...] = ()  # Other workers that the agent holds responsible.
    killed_by_agent: bool | None = None  # Whether the agent itself killed its training process; None: not known.
    signal: str = ""  # The signal that ended the training process, such as "SIGKILL"; "": none did.
    step: int | None = None  # The last step that this agent saw; None: not known.
    restarts: int = 0  # How often this agent restarted its training process.
    errors: tuple[str, ...] = ()  # The last lines of the training process's standard error.

    @classmethod
    def of(cls, pod: Pod) -> Self:
        """Reads the message of a pod; one without a message says nothing."""
        facts = pod.facts
        reason = _text(facts.get("reason"))
        try:
            format_versions.version(facts, format_versions.TERMINATION_MESSAGE, what="the termination message")
        except DataError:
            return cls(reason=reason)
        return cls(
            reason=reason,
            cause=_cause(facts),
            accused=tuple(
                worker for worker in map(_whole, _list(facts.get("accused"))) if worker not in (None, pod.index)
            ),
            killed_by_agent=facts["killed_by_agent"] if isinstance(facts.get("killed_by_agent"), bool) else None,
            signal=_text(facts.get("signal")),
            step=_whole(facts.get("step")),
            restarts=_whole(facts.get("restarts")) or 0,
            errors=tuple(line for line in _list(facts.get("errors")) if isinstance(line, str)),
        )

    @property
    def addition(self) -> str:
        """The reason, if it says more than the exit code, the cause and the error lines do; else ""."""
        told = self.cause in _TOLD_BY_EXIT or (self.errors and self.reason.endswith(self.errors[-1]))
        return "" if told else self.reason


def _cause(facts: Mapping[str, Any]) -> Cause | None:
    try:
        return Cause(_text(facts.get("cause")))
    except ValueError:
        return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= typed_json.MOST else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
