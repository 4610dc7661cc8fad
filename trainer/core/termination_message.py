"""A container's termination message: how a worker ended, readable without storage for as long as its pod is known.

JSON that the agent writes and the launcher reads. Worker 0's, when the run has succeeded, is its result.json; any other
has these fields (0.1.0 wrote those without a mark):

    format            2 *
    worker, attempt   whose it is, and the number of its last attempt
    exit_code         of the agent
    meaning, reason   of the exit code, and of this end: sentences for people
    cause             why the worker's part in its last attempt ended, a value of `Cause`; null before the first *
    accused           other workers that the reason blames, by index; empty when it speaks of this one *
    killed_by_agent   whether the agent killed the training process, which was frozen or hung *
    signal, step      what the training process was killed by, or null; the last step that was seen
    restarts          of the training process, by this agent
    run, output       name of the run directory, and the output's address without secrets or "" *
    errors            the last lines of the training process's standard error
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from trainer.core import typed_json

LIMIT = 4096  # Bytes; the kubelet cuts what is longer.
_DEFAULT_PATH = "/dev/termination-log"
_LAST_LINES = 5  # Of a log that Kubernetes puts in the place of a message.
_FOR_PEOPLE = ("reason", "meaning")
_FOR_PROGRAMS = (
    "format", "worker", "attempt", "exit_code", "cause", "accused", "killed_by_agent", "signal", "step", "restarts",
    "run", "output",
)  # fmt: skip


def dumps(fields: Mapping[str, Any]) -> str:
    """The fields as JSON of at most LIMIT bytes.

    The lines of `errors` are dropped first, oldest first, then sentences are cut; what programs need goes last.
    """
    kept = dict(fields)
    while len(text := json.dumps(kept)) > LIMIT:  # It is ASCII, so characters are bytes.
        _shorten(kept)
    return text


def _shorten(fields: dict[str, Any]) -> None:
    """Makes the least important field shorter, or drops it."""
    errors = fields.get("errors")
    if errors:
        fields["errors"] = errors[1:] if len(errors) > 1 else _halved(errors[0])
        return
    for name in _FOR_PEOPLE:
        if len(fields.get(name) or "") > LIMIT // 8:
            fields[name] = fields[name][: LIMIT // 8]
            return
    others = [name for name in fields if name not in _FOR_PROGRAMS] or list(fields)
    del fields[max(others, key=lambda name: len(json.dumps(fields[name])))]


def _halved(line: str) -> list[str]:
    return [line[: len(line) // 2]] if len(line) > 1 else []


def loads(text: str) -> dict[str, Any]:
    """The fields of a message, of any format; of a text that is no JSON, its last lines as `errors`."""
    try:
        fields = typed_json.loads(text, lenient=True)
    except ValueError:
        return {"errors": text.splitlines()[-_LAST_LINES:]} if text else {}
    return fields if isinstance(fields, dict) else {}


def write(fields: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Leaves the message where TERMINATION_MESSAGE_PATH or Kubernetes' default says, if there is such a place.

    Raises:
      OSError: the place cannot be written to.
    """
    path = pathlib.Path(environ.get("TERMINATION_MESSAGE_PATH") or _DEFAULT_PATH)
    if "TERMINATION_MESSAGE_PATH" in environ or (path.exists() and os.access(path, os.W_OK)):
        path.write_text(dumps(fields))
