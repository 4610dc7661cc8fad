"""The container's termination message: how it ended, readable without storage for as long as the pod is known."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from trainer.agent.messages import Ended, Finish
from trainer.agent.status import Status
from trainer.core.exit_codes import meaning
from trainer.core.process import signal_name

LIMIT = 4096  # Bytes; the kubelet cuts what is longer.
_DEFAULT = "/dev/termination-log"


def message(facts: Mapping[str, Any]) -> str:
    """The facts as JSON of at most LIMIT bytes; `errors`, a list of lines, is shortened first, oldest first."""
    facts = dict(facts)
    while len(text := json.dumps(facts)) > LIMIT:  # ASCII, so characters are bytes.
        errors = facts.get("errors") or []
        if len(errors) > 1:
            facts["errors"] = errors[1:]
        elif errors and len(errors[0]) > 1:
            facts["errors"] = [errors[0][: len(errors[0]) // 2]]
        else:
            largest = max(facts, key=lambda key: len(json.dumps(facts[key])))
            del facts[largest]
    return text


def facts(finish: Finish, ended: Ended, status: Status) -> dict[str, Any]:
    """How an agent ends without a result."""
    return {
        "worker": status.worker,
        "attempt": ended.attempt,
        "exit_code": int(finish.code),
        "meaning": meaning(finish.code),
        "reason": finish.reason,
        "signal": signal_name(ended.code),
        "step": status.step,
        "restarts": status.restarts,
        "errors": list(ended.errors),
    }


def write(facts: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Leaves the message where TERMINATION_MESSAGE_PATH or Kubernetes' default says, if there is such a place."""
    path = pathlib.Path(environ.get("TERMINATION_MESSAGE_PATH") or _DEFAULT)
    if "TERMINATION_MESSAGE_PATH" in environ or (path.exists() and os.access(path, os.W_OK)):
        path.write_text(message(facts))
