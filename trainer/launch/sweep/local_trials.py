"""Trials on this machine: each a fleet of its own, with its share of the cores."""

import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Sequence

from trainer.core import settings, typed_json
from trainer.core.log_lines import Progress
from trainer.core.run_dir import RESULT
from trainer.core.safe_text import one_line
from trainer.launch.local.flags import LocalFlags
from trainer.launch.local.fleet import share
from trainer.launch.runs.trials import RUNNING, Trial
from trainer.launch.sweep import grid, hparams
from trainer.launch.sweep.flags import LocalSweepFlags
from trainer.launch.sweep.trial_kind import take_progress, take_result
from trainer.launch.sweep.trial_process import TrialLine


class LocalTrials:
    """As `TrialKind`."""

    outlives = False

    def __init__(self, flags: LocalSweepFlags, folder: pathlib.Path, training: Sequence[str], parallel: int) -> None:
        """Starts nothing.

        Args:
          flags: the sweep's.
          folder: where the trials' run directories lie.
          training: the training program's flags that all trials have.
          parallel: how many trials run at a time.
        """
        self._flags, self._folder, self._training, self._parallel = flags, folder, tuple(training), parallel
        self._in_traceback: set[int] = set()  # Numbers of trials.
        self._raised: dict[int, str] = {}  # By their numbers: what ended the newest traceback.

    def begin(self, trial: Trial, epochs: int | None) -> list[str]:
        """As `TrialKind.begin`. A trial that was interrupted goes on in its folder."""
        self._raised.pop(trial.number, None)
        name = f"{self._flags.name}-{trial.number}" + (f"-rung-{trial.rung + 1}" if trial.rung else "")
        before = trial.runs[: trial.rung]
        trial.runs = [*before, name]
        run_dir = self._folder / name
        run_dir.mkdir(parents=True, exist_ok=True)
        now = time.time()
        if not list(run_dir.glob(f"*{hparams.MARK}*")):
            group = f"{self._flags.name}-{trial.number}"
            _write_hparams(run_dir / hparams.start_file(now), hparams.start(trial.flags, group, now))
        own = dataclasses.replace(LocalFlags(**settings.values(self._flags, LocalFlags)), local=True, json=False)
        training = [*self._training, *grid.arguments(trial.flags), f"--run_dir={run_dir}"]
        if epochs is not None:
            training.append(f"--epochs={epochs}")
        if before:
            training.append(f"--resume_from={self._folder / before[-1]}")
        return ["--local", f"--workers={own.workers}", *settings.arguments(own), "--", *training]

    def cores(self, place: int) -> Sequence[int]:
        """As `TrialKind.cores`."""
        return share(sorted(os.sched_getaffinity(0)), place, self._parallel)

    def read(self, trial: Trial, line: TrialLine) -> bool:
        """As `TrialKind.read`."""
        if progress := Progress.parse(line.text):
            return take_progress(trial, progress)
        _, cut, said = line.text.partition(" | ")
        if cut:
            self._follow_traceback(trial, said)
        if line.error or "error: " in said or line.text.startswith("failed: "):
            text = said if cut and "error: " in said else line.text
            if not (trial.reason.startswith("error: ") and not text.startswith("error: ")):  # What follows says less.
                raised = self._raised.get(trial.number, "") if text.startswith("failed: ") else ""
                trial.reason = one_line(f"{text}: {raised}" if raised else text, 300)
        return False

    def _follow_traceback(self, trial: Trial, said: str) -> None:
        """Keeps what the user's own code has raised: the first line after a traceback that is not indented."""
        if said.startswith("Traceback (most recent call last)"):
            self._in_traceback.add(trial.number)
        elif trial.number in self._in_traceback and said and not said[0].isspace():
            self._in_traceback.discard(trial.number)
            self._raised[trial.number] = said

    def end(self, trial: Trial, code: int) -> list[str]:
        """As `TrialKind.end`."""
        run_dir = self._folder / trial.runs[-1]
        if code == 0:
            try:
                result = typed_json.an_object(json.loads((run_dir / RESULT).read_text()), RESULT)
                take_result(trial, result)
                trial.reason = ""
            except (OSError, ValueError) as error:
                trial.metrics, trial.diverged = {}, ()
                trial.reason = f"{run_dir / RESULT} cannot be read: {one_line(str(error), 200)}"
        now = time.time()
        if trial.state == RUNNING and run_dir.is_dir():
            _write_hparams(run_dir / hparams.end_file(now), hparams.end(succeeded=code == 0, now=now))
        return []


def _write_hparams(path: pathlib.Path, content: bytes) -> None:
    """Writes what TensorBoard's HParams tab shows of a trial; a disk that takes nothing costs that alone."""
    try:
        path.write_bytes(content)
    except OSError:
        with contextlib.suppress(OSError):  # The next start writes it whole.
            path.unlink()
