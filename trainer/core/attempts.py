"""attempts.jsonl in a run directory, as it is read: one line an attempt, written by worker 0's agent."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from trainer.core import format_versions, typed_json
from trainer.core.run_dir import ATTEMPTS, MOST_ATTEMPTS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """Which steps an attempt made, and how long it took."""

    step_from: int
    step_to: int
    rendezvous: float  # Seconds from the end of the attempt before.
    start_up: float  # Seconds to the first progress line.
    training: float  # Seconds after it.

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.rendezvous + self.start_up + self.training


def useful(spans: Sequence[Span]) -> list[float]:
    """Of the training of each attempt, in their order, the seconds whose steps no later attempt made again."""
    seconds: list[float] = []
    kept = math.inf  # Up to this step, no attempt behind the one that is looked at made any again.
    for span in reversed(spans):
        made = span.step_to - span.step_from
        counted = max(0, min(span.step_to, kept) - span.step_from)
        seconds.append(span.training * counted / made if made > 0 else 0.0)
        kept = min(kept, span.step_from)
    return seconds[::-1]


def goodput(spans: Sequence[Span]) -> float | None:
    """The share of the attempts' time in which they trained steps that counted; None: there was no time.

    Args:
      spans: of all attempts, in their order.
    """
    total = sum(span.seconds for span in spans)
    return sum(useful(spans)) / total if total else None


def read(run_dir: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of the attempts so far; raises as `parse`."""
    path = run_dir / ATTEMPTS
    return parse(path.read_bytes()) if path.exists() else []


def parse(data: bytes) -> list[dict[str, Any]]:
    """The lines of the file's content; one that was torn, or is no attempt's, is left out.

    Raises:
      DataError: a newer version of the trainer wrote a line.
    """
    lines = []
    for text in data.decode(errors="replace").splitlines():
        try:
            line = typed_json.an_object(typed_json.loads(text), "a line")
        except ValueError:
            continue
        format_versions.version(line, format_versions.ATTEMPTS, what=f"a line of {ATTEMPTS}")
        try:
            typed_json.whole(line, "attempt", least=1, most=2 * MOST_ATTEMPTS)
        except ValueError:
            continue
        lines.append(line)
    return lines


def last(run_dir: pathlib.Path) -> int:
    """The number of the last attempt; 0: there was none. Raises as `parse`."""
    return max((line["attempt"] for line in read(run_dir)), default=0)
