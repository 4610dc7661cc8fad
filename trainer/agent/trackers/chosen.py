"""Which trackers the environment asks for; worker 0's agent tells them of the run."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainer.agent.trackers.mlflow_tracker import URI, MlflowTracker
from trainer.agent.trackers.tracking import RefusedError, Run, Tracker, Tracking
from trainer.agent.trackers.wandb_tracker import KEY, WandbTracker
from trainer.core import typed_json
from trainer.core.log_lines import Progress
from trainer.core.run_dir import RESULT
from trainer.core.safe_text import one_line, redacted

_END_SECONDS = 15.0  # For what still waits at the end of a run, and for a tracker that is away no more than that.
_FAILED_SECONDS = 3.0  # Of a run that has not succeeded: a pod that is told to go has little time.
_TRACKERS: dict[str, Callable[[Mapping[str, str]], Tracker]] = {URI: MlflowTracker, KEY: WandbTracker}


class Trackers:
    """All trackers of a run; none where nothing in the environment asks for one."""

    def __init__(self) -> None:
        self._tracked: list[Tracking] = []
        self._run_dir = Path()

    def begin(
        self, environ: Mapping[str, str], run_dir: Path, arguments: tuple[str, ...], *, goes_on: bool,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Begins to tell those that the environment asks for.

        Args:
          environ: the agent's environment.
          run_dir: the run directory, whose name is the run's.
          arguments: of the training program, as `--name=value`.
          goes_on: whether an earlier agent has begun the run.
          say: takes a sentence for a person.
        """
        self._run_dir = run_dir
        flags = {name: redacted(value) for name, _, value in (flag.lstrip("-").partition("=") for flag in arguments)}
        run = Run(name=run_dir.resolve().name, flags=flags, goes_on=goes_on)
        for variable, make in _TRACKERS.items():
            if environ.get(variable):
                try:
                    self._tracked.append(Tracking(make(environ), run, say=say))
                except (RefusedError, OSError, ValueError) as error:  # Such as a certificate that is not there.
                    say(f"warning: this run is not tracked: {one_line(redacted(str(error)), 300)}")

    def progressed(self, progress: Progress) -> None:
        """Takes a progress line of worker 0, from any thread, and returns at once."""
        for tracking in self._tracked:
            tracking.progressed(progress)

    def finish(self, code: int) -> None:
        """Tells how the run ended; returns when they know it, or do not answer."""
        if not self._tracked:
            return
        result: Mapping[str, Any] | None = None
        if code == 0:
            with contextlib.suppress(OSError, ValueError):  # Its agent leaves without one, too, then.
                data = (self._run_dir / RESULT).read_bytes()
                result = typed_json.an_object(typed_json.loads(data, lenient=True), RESULT)
        for tracking in self._tracked:
            tracking.finish(result, code)
        deadline = time.monotonic() + (_END_SECONDS if code == 0 else _FAILED_SECONDS)
        for tracking in self._tracked:
            tracking.wait(deadline - time.monotonic())
