"""Weights & Biases as a tracker: its client runs in a process of its own, out of the agent's way.

WANDB_API_KEY in the environment switches it on; WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE and the rest are its own.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.agent.trackers.tracking import Point, RefusedError, Run
from trainer.core import run_token

KEY = "WANDB_API_KEY"
_REFUSED = "refused: "


class WandbTracker:
    """One run in a project of Weights & Biases."""

    name = "Weights & Biases"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {name: value for name, value in environ.items() if name != run_token.TOKEN}
        self._process: subprocess.Popen[str] | None = None
        self._run: Run | None = None

    def begin(self, run: Run) -> tuple[int, bool]:
        """Begins the run, or goes on with it."""
        asked = {"begin": {"name": run.name, "flags": dict(run.flags), "goes_on": run.goes_on}}
        self._run = run
        return int(self._ask(asked)), True

    def log(self, points: Sequence[Point]) -> None:
        """Hands every metric of the lines to the client."""
        self._ask({"log": [[point.progress.step, point.metrics] for point in points]})

    def end(self, result: Mapping[str, Any] | None, code: int) -> None:
        """Hands the result to the client, which sends what it still has."""
        self._ask({"end": {"result": dict(result or {}), "code": code}})

    def _ask(self, asked: Mapping[str, Any]) -> str:
        """Sends one line to the process, and waits for its answer."""
        if self._process is None:
            command = (sys.executable, "-m", "trainer.agent.trackers.wandb_process")
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                command, env=self._environ, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
            )
            if self._run is not None and "begin" not in asked:  # It has ended in the middle, and goes on.
                self.begin(Run(name=self._run.name, flags=self._run.flags, goes_on=True))
        assert self._process.stdin  # noqa: S101
        assert self._process.stdout  # noqa: S101
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except OSError:
            answer = ""
        if answer.startswith("ok "):
            return answer[3:].strip()
        self._process.kill()
        self._process.wait()
        self._process = None
        if answer.startswith(_REFUSED):
            raise RefusedError(answer.removeprefix(_REFUSED).strip())
        raise ConnectionError(answer.strip() or "its client has ended")
