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
from trainer.core.safe_text import one_line, redacted
from trainer.launch.checks.check_result import Mark
from trainer.launch.codes import LaunchCode, LaunchError
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
_NAME = re.compile(r"[a-z0-9-]{1,80}")  # A Job's, or its run's.


@dataclasses.dataclass
class _Told:
    """What the launcher of a trial has told of it."""

    check_failed: bool = False
    over: bool = False  # Its Job has ended.


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
        self._told: dict[int, _Told] = {}  # By the trial's number, since its launcher began.

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
        self._told.pop(trial.number, None)
        flags = self.submit_flags(trial)
        if trial.job or trial.state == RUNNING:  # A launcher that was killed may not have kept the Job's name.
            attach = AttachFlags(**settings.values(flags, AttachFlags))
            return ["attach", *settings.arguments(attach)]
        if len(trial.runs) < trial.rung:
            output = redacted(self._flags.output)
            raise LaunchError(
                f"it cannot go on to epoch {epochs}: its run before is none in --output={output}; give the place where "
                "runs are kept by --output alone, and --name=another"
            )
        return ["submit", *settings.arguments(flags), "--", *self.training(trial, epochs)]

    def cores(self, place: int) -> Sequence[int]:  # noqa: ARG002
        """As `TrialKind.cores`."""
        return ()

    def read(self, trial: Trial, line: TrialLine) -> bool:
        """As `TrialKind.read`."""
        told = self._told.setdefault(trial.number, _Told())
        try:
            said = typed_json.an_object(typed_json.loads(line.text), "a line")
        except ValueError:
            if line.text and not told.check_failed:  # This says how many have failed.
                trial.reason = one_line(line.text, 300)
            return False
        match said.get("event"):
            case "notice":
                trial.job = _name(said.get("job")) or trial.job
                check = said.get("check")
                if isinstance(check, dict) and check.get("mark") == Mark.FAIL and not told.check_failed:
                    told.check_failed = True
                    trial.reason = one_line(f"{Mark.FAIL} {check.get('what')}: {check.get('text')}", 300)
            case "progress":
                return _take_progress(trial, said)
            case "verdict":
                told.over = said.get("goes_on") is False
                self._take_verdict(trial, said)
        return False

    def end(self, trial: Trial, code: int) -> list[str]:
        """As `TrialKind.end`."""
        told = self._told.get(trial.number, _Told())
        if code != LaunchCode.NOT_STARTED and not told.over:
            return []  # Nobody knows whether it goes on.
        trial.job = ""  # Another start of this trial makes another Job.
        if code == LaunchCode.NOT_STARTED:
            return []  # Nothing was made, or all of it was removed again.
        if code == LaunchCode.DONE:
            trial.reason = ""
        if "://" not in self._flags.output:
            return []  # Its logs, and without an output all of it, are on the cluster alone.
        self._write_hparams(trial, succeeded=code == LaunchCode.DONE)
        release = ReleaseFlags(**settings.values(self.submit_flags(trial), ReleaseFlags))
        return ["delete", *settings.arguments(dataclasses.replace(release, json=False))]

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
        trial.job = _name(verdict.get("job")) or trial.job
        run, output = _name(verdict.get("run")), verdict.get("output")
        kept_here = isinstance(output, str) and output.rstrip("/") == redacted(self._flags.output).rstrip("/")
        if kept_here and run_name_parts(run):
            trial.runs = [*trial.runs[: trial.rung], run]

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


def _name(value: object) -> str:
    """The name of a Job or of a run that a launcher tells; "" for anything else."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def _take_progress(trial: Trial, said: Mapping[str, Any]) -> bool:
    """Takes in the progress that a launcher tells with --json."""
    measured = {one_line(name, 100): value for name, value in sound(said).items() if name not in _NO_METRIC}
    numbers = {name: float(value) for name, value in measured.items() if type(value) in (int, float)}
    none = tuple(name for name, value in measured.items() if value is None)
    if not any(name.startswith("val_") for name in (*numbers, *none)):
        return False
    trial.metrics, trial.diverged, trial.epochs = numbers, none, round(figure(said, "epoch"))
    return True
