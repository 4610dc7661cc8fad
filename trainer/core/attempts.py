"""attempts.jsonl in a run directory, as it is read: one line an attempt, written by worker 0's agent."""

import pathlib
from typing import Any

from trainer.core import format_versions, typed_json
from trainer.core.run_dir import ATTEMPTS, MOST_ATTEMPTS


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
