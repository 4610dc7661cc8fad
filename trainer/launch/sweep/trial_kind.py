"""What a sweep has to know of the place where its trials run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from trainer.core.log_lines import Progress
from trainer.core.result_figures import diverged, figure, metrics
from trainer.core.safe_text import one_line
from trainer.launch.runs.trials import Trial
from trainer.launch.sweep.trial_process import TrialLine


class TrialKind(Protocol):
    """Runs trials: on a cluster, or on this machine."""

    outlives: bool  # Whether a trial goes on when the launcher that watches it is interrupted.

    def begin(self, trial: Trial, epochs: int | None) -> list[str]:
        """The launcher's arguments that start a trial, or follow one that goes on already.

        Args:
          trial: the trial, RUNNING where it may have been started before.
          epochs: those of its rung; None: as the flags of all trials say.

        Raises:
          LaunchError: it cannot go on from the run before.
          OSError: this machine has no place for it.
        """

    def cores(self, place: int) -> Sequence[int]:
        """The cores of the trial that is the `place`th of those that run; empty: it needs none of this machine's."""

    def read(self, trial: Trial, line: TrialLine) -> bool:
        """Takes in a line of a trial's launcher; whether it tells the metrics of a whole epoch."""

    def end(self, trial: Trial, code: int) -> list[str]:
        """Takes in the end of a trial's launcher; returns the launcher's arguments that clear up after it, if any do.

        A trial that succeeded has its metrics and epochs then, one that did not the reason.
        """


def take_progress(trial: Trial, progress: Progress) -> bool:
    """Takes in how far a trial is; whether that was the end of an epoch."""
    if not progress.ends_epoch:
        return False
    validation = {f"val_{name}": value for name, value in (progress.validation or {}).items()}
    measured = {one_line(name, 100): value for name, value in {**progress.metrics, **validation}.items()}
    trial.metrics = {name: value for name, value in measured.items() if math.isfinite(value)}
    trial.diverged = tuple(name for name in measured if name not in trial.metrics)
    trial.epochs = progress.epoch
    return True


def take_result(trial: Trial, result: Mapping[str, Any]) -> None:
    """Takes in what the result of a trial's run says it has measured."""
    trial.metrics, trial.diverged = metrics(result), diverged(result)
    trial.epochs = round(figure(result, "epochs"))
