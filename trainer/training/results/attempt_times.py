"""Where the time of attempts went: of those that have ended by attempts.jsonl, of the one that runs by a clock."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.core import typed_json
from trainer.core.attempts import Span, useful


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttemptTime(Span):
    """One attempt."""

    number: int
    workers: int
    lost: float  # The part of `training` whose steps were made again.
    end: str  # What ended it, for a person; "" for the one that runs.


class AttemptClock:
    """The clock of the attempt that runs."""

    def __init__(self, began: float) -> None:
        """`began`: when its process did (time.monotonic)."""
        self._began = self._first_step = began
        self.step_from = 0

    def steps_begin(self, step_from: int) -> None:
        """From now on it makes steps, the next one after `step_from`."""
        self._first_step, self.step_from = time.monotonic(), step_from

    def spent(self, *, number: int, workers: int, step_to: int) -> AttemptTime:
        """What it took until now."""
        return AttemptTime(
            number=number,
            workers=workers,
            step_from=self.step_from,
            step_to=step_to,
            rendezvous=0.0,  # Its agent knows, and says it when the attempt is over.
            start_up=self._first_step - self._began,
            training=time.monotonic() - self._first_step,
            lost=0.0,
            end="",
        )


def attempt_times(lines: Sequence[Mapping[str, Any]], running: AttemptTime) -> list[AttemptTime]:
    """All attempts in their order; a line that does not say what a line says is left out.

    Args:
      lines: of attempts.jsonl.
      running: the attempt that runs.
    """
    earlier = [attempt for line in lines if (attempt := _of_line(line)) and attempt.number < running.number]
    attempts = [*sorted(earlier, key=lambda attempt: attempt.number), running]
    return [
        dataclasses.replace(attempt, lost=attempt.training - seconds)
        for attempt, seconds in zip(attempts, useful(attempts), strict=True)
    ]


def _of_line(line: Mapping[str, Any]) -> AttemptTime | None:
    try:
        seconds = typed_json.an_object(line.get("seconds"), "seconds")
        return AttemptTime(
            number=typed_json.whole(line, "attempt"),
            workers=len(line["workers"]),
            step_from=typed_json.whole(line, "step_from"),
            step_to=typed_json.whole(line, "step_to"),
            rendezvous=max(0.0, typed_json.number(seconds, "rendezvous")),
            start_up=max(0.0, typed_json.number(seconds, "start_up")),
            training=max(0.0, typed_json.number(seconds, "training")),
            lost=0.0,
            end=typed_json.text(line, "reason"),
        )
    except (ValueError, KeyError, TypeError):
        return None
