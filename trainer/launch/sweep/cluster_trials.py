"""Trials on a cluster: each a release, submitted and watched by a launcher of its own, and removed once it is kept."""

import dataclasses
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.core import settings, typed_json
from trainer.core.log_lines import PROGRESS_FIELDS
from trainer.core.result_figures import figure, sound
from trainer.core.run_dir import run_name_parts
from trainer.core.safe_text import one_line
from trainer.launch.checks.check_result import Mark
from trainer.launch.codes import LaunchCode
from trainer.launch.flags import AttachFlags, ReleaseFlags, SubmitFlags
from trainer.launch.report.lines import EVENT_KEYS
from trainer.launch.runs.trials import RUNNING, Trial
from trainer.launch.sweep import grid, hparams
from trainer.launch.sweep.flags import SweepFlags
from trainer.launch.sweep.trial_kind import take_result
from trainer.launch.sweep.trial_process import TrialLine
from trainer.output.stores.errors import StorageError
from trainer.output.stores.opening import open_store
from trainer.output.stores.store import join

_NO_METRIC = frozenset({*EVENT_KEYS, *PROGRESS_FIELDS})  # Of a line of progress.
# One TensorBoard for all trials, not one for each; the user's own --set comes later and wins.
_SETS = ("tensorboard.enabled=false",)
_FAILED_CHECK = f"{Mark.FAIL} "


class ClusterTrials:
    """As `TrialKind`."""

    outlives = True

    def __init__(self, flags: SweepFlags, training: Sequence[str]) -> None:
        """Starts nothing.

        Args:
          flags: the sweep's.
          training: the training program's flags that all trials have.
        """
        self._flags, self._training = flags, tuple(training)

    def submit_flags(self, trial: Trial) -> SubmitFlags:
        """The flags with which `submit` makes a trial's release."""
        own = SubmitFlags(**settings.values(self._flags, SubmitFlags))
        release = f"{self._flags.name}-{trial.number}"
        return dataclasses.replace(own, name=release, json=True, logs="chief", set=(*_SETS, *own.set))

    def training(self, trial: Trial, epochs: int | None) -> list[str]:
        """The training program's flags of a trial."""
        training = [*self._training, *grid.arguments(trial.flags)]
        if epochs is not None:
            training.append(f"--epochs={epochs}")
        if trial.rung and len(trial.runs) >= trial.rung:
            folder = self._flags.output.rstrip("/") if "://" in self._flags.output else "/runs"  # A claim, mounted.
            training.append(f"--resume_from={folder}/{trial.runs[trial.rung - 1]}")
        return training

    def begin(self, trial: Trial, epochs: int | None) -> list[str]:
        """As `TrialKind.begin`. One that was submitted before is followed."""
        flags = self.submit_flags(trial)
        if trial.job or trial.state == RUNNING:  # A launcher that was killed may not have kept the Job's name.
            attach = AttachFlags(**settings.values(flags, AttachFlags))
            return ["attach", *settings.arguments(attach)]
        return ["submit", *settings.arguments(flags), "--", *self.training(trial, epochs)]

    def cores(self, place: int) -> Sequence[int]:  # noqa: ARG002
        """As `TrialKind.cores`."""
        return ()

    def read(self, trial: Trial, line: TrialLine) -> bool:
        """As `TrialKind.read`."""
        try:
            said = typed_json.an_object(typed_json.loads(line.text), "a line")
        except ValueError:
            if line.text and not trial.reason.startswith(_FAILED_CHECK):  # This says how many have failed.
                trial.reason = one_line(line.text, 300)
            return False
        match said.get("event"):
            case "notice":
                text = str(said.get("text"))
                submitted = re.match(r"submitted ([a-z0-9-]{1,63})(?:;|$)", text)
                trial.job = submitted[1] if submitted else trial.job
                if text.startswith(_FAILED_CHECK) and not trial.reason.startswith(_FAILED_CHECK):
                    trial.reason = one_line(" ".join(text.splitlines()[0].split()), 300)
            case "progress":
                return _take_progress(trial, said)
            case "verdict":
                self._take_verdict(trial, said)
        return False

    def end(self, trial: Trial, code: int) -> list[str]:
        """As `TrialKind.end`."""
        if code not in (LaunchCode.DONE, LaunchCode.TRAINING, LaunchCode.NOT_STARTED):
            return []  # Nobody knows whether it goes on.
        started = bool(trial.job or trial.runs[trial.rung :])
        trial.job = ""  # Another start of this trial makes another Job.
        if code == LaunchCode.NOT_STARTED or not started:
            return []  # Nothing was made, or all of it was removed again.
        if code == LaunchCode.DONE:
            trial.reason = ""
        if "://" not in self._flags.output:
            return []  # Its logs, and without an output all of it, are on the cluster alone.
        self._write_hparams(trial, succeeded=code == LaunchCode.DONE)
        release = ReleaseFlags(**settings.values(self.submit_flags(trial), ReleaseFlags))
        return ["delete", *settings.arguments(release)]

    def _take_verdict(self, trial: Trial, verdict: Mapping[str, Any]) -> None:
        result = verdict.get("result")
        if isinstance(result, dict):
            take_result(trial, result)
        trial.reason = one_line(str(verdict.get("text", "")), 300)
        lines = verdict.get("lines")
        texts = [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []
        errors = [line.removeprefix("| ") for line in texts if line.startswith("| ")]
        if errors:
            trial.reason = one_line(f"{trial.reason}: {errors[-1]}", 300)
        for text in texts:
            kept = re.match(rf"kept in {re.escape(self._flags.output.rstrip('/'))}/([^/ ]+)", text)
            if kept and run_name_parts(kept[1]):
                trial.runs = [*trial.runs[: trial.rung], kept[1]]

    def _write_hparams(self, trial: Trial, *, succeeded: bool) -> None:
        """Writes what TensorBoard's HParams tab shows of the trial beside its run; a bucket that refuses costs that."""
        now = time.time()
        group = f"{self._flags.name}-{trial.number}"
        files = {
            hparams.start_file(now): hparams.start(trial.flags, group, now),
            hparams.end_file(now): hparams.end(succeeded=succeeded, now=now),
        }
        try:
            store = open_store(self._flags.output)
            for name, content in files.items() if trial.runs else ():
                store.create(join(trial.runs[-1], name), content)
        except StorageError:  # The list of trials is in the same bucket: what is wrong with it is said there.
            return


def _take_progress(trial: Trial, said: Mapping[str, Any]) -> bool:
    """Takes in the progress that a launcher tells with --json."""
    measured = {one_line(name, 100): value for name, value in sound(said).items() if name not in _NO_METRIC}
    numbers = {name: float(value) for name, value in measured.items() if type(value) in (int, float)}
    none = tuple(name for name, value in measured.items() if value is None)
    if not any(name.startswith("val_") for name in (*numbers, *none)):
        return False
    trial.metrics, trial.diverged, trial.epochs = numbers, none, round(figure(said, "epoch"))
    return True
