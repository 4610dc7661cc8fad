"""attempts.jsonl in the run directory, as it is written: one line an attempt, by worker 0's agent."""

import errno
import json
import os
import pathlib
from typing import Any

from trainer.agent.coordination.messages import Begin, Failure, Over
from trainer.core import format_versions
from trainer.core.attempts import Span
from trainer.core.causes import Cause
from trainer.core.process import signal_name
from trainer.core.run_dir import ATTEMPTS


def record(begin: Begin, over: Over, failure: Failure | None, span: Span) -> dict[str, Any]:
    """The line of an attempt.

    Args:
      begin: its number and who was in it.
      over: what was said when it was over.
      failure: what ended it first; None: nothing failed.
      span: its steps and times, as worker 0's agent saw them.
    """
    line: dict[str, Any] = {
        format_versions.KEY: format_versions.ATTEMPTS,
        "attempt": begin.attempt,
        "workers": list(begin.present),
        "step_from": span.step_from,
        "step_to": span.step_to,
        "seconds": {
            "rendezvous": round(span.rendezvous, 3),
            "start_up": round(span.start_up, 3),
            "training": round(span.training, 3),
        },
        "ended": (failure.ended.cause if failure else over.cause).value,
        "reason": failure.ended.described(failure.worker) if failure else over.reason,
    }
    if failure is not None and failure.ended.cause is not Cause.AGREED:
        code = failure.ended.code
        line["failure"] = {
            "worker": failure.worker,
            "cause": failure.ended.cause.value,
            "exit_code": code,
            "signal": signal_name(code),
            "errors": list(failure.ended.errors),
        }
    return line


def append(run_dir: pathlib.Path, line: dict[str, Any]) -> None:
    """Adds a line, whole or not at all.

    Raises:
      OSError: the disk did not take it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / ATTEMPTS
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        data = (("\n" if torn else "") + json.dumps(line) + "\n").encode()
        before = os.fstat(descriptor).st_size
        if os.write(descriptor, data) < len(data):  # The disk was full behind the first bytes.
            os.ftruncate(descriptor, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
