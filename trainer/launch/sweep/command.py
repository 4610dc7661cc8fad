"""`python -m trainer.launch sweep`: reads its flags and what was left of the sweep before, and runs the trials."""

import contextlib
import os
import pathlib
from collections.abc import Sequence

from trainer.core import settings
from trainer.core.exit_codes import DataError, UsageError
from trainer.core.safe_text import printable, redacted
from trainer.launch import code_folder
from trainer.launch.checks.code_check import check_module
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.flags import PROGRAM, check
from trainer.launch.local import flags as local_flags
from trainer.launch.runs import event_scalars, trials
from trainer.launch.runs.places import LocalFolder, RunFolder
from trainer.launch.runs.trials import FAILED, RUNNING, WAITING, Sweep, Trial
from trainer.launch.sweep import grid, halving, view
from trainer.launch.sweep.admission import check_admission
from trainer.launch.sweep.book import Book, FileBook, StoreBook
from trainer.launch.sweep.cluster_trials import ClusterTrials
from trainer.launch.sweep.engine import Engine
from trainer.launch.sweep.flags import LocalSweepFlags, SweepFlags
from trainer.launch.sweep.local_trials import LocalTrials
from trainer.launch.sweep.trial_kind import TrialKind
from trainer.launch.sweep.view import SweepView
from trainer.output.stores.errors import StorageError
from trainer.output.stores.opening import open_store
from trainer.output.stores.store import Folders

_PARALLEL = 4  # Trials at a time on a cluster, where nothing else is asked for.


def run(argv: Sequence[str], trainer_argv: Sequence[str]) -> int:
    """Runs a sweep, goes on with one, or shows how it stands; returns the launcher's exit code.

    Args:
      argv: the launcher's flags.
      trainer_argv: the training program's.

    Raises:
      UsageError: a flag, a combination of values or a metric that cannot be used.
      LaunchError: a check failed, or the list of trials cannot be read or written.
    """
    local = settings.switched_on("local", argv, program=PROGRAM)
    program = f"{PROGRAM} sweep"
    flags: SweepFlags | LocalSweepFlags
    if local:
        flags = settings.parse(LocalSweepFlags, argv, program=program)
    else:
        flags = settings.parse(SweepFlags, argv, program=program)
    _check(flags)
    if flags.status:
        return _status(flags)
    wanted, epochs = _wanted(flags, trainer_argv)
    with contextlib.closing(_book(flags)) as book:
        rungs = halving.rungs(len(wanted.trials), epochs) if flags.halving else []
        try:
            sweep = _resumed(book, wanted, flags, len(rungs))
        except DataError as error:
            raise LaunchError(str(error)) from None
        with view.open_view(json_lines=flags.json) as shown:
            code = _run(flags, sweep, book, rungs, shown)
            shown.end(sweep)
            if code in (LaunchCode.INTERRUPTED, LaunchCode.FAILED):
                shown.say("go on with the same command; with --status it shows how the sweep stands")
    return code


def _run(
    flags: SweepFlags | LocalSweepFlags, sweep: Sweep, book: Book, rungs: list[int], shown: SweepView
) -> LaunchCode:
    unfinished = sum(trial.state in (WAITING, RUNNING) for trial in sweep.trials)
    kind: TrialKind
    if isinstance(flags, LocalSweepFlags):
        parallel = flags.parallel or max(1, len(os.sched_getaffinity(0)) // flags.workers)
        kind = LocalTrials(flags, _folder(flags), sweep.training, parallel)
    else:
        parallel = flags.parallel or _PARALLEL
        kind = ClusterTrials(flags, sweep.training)
        waiting = [trial for trial in sweep.trials if trial.state == WAITING]
        if waiting:
            at_a_time = min(parallel, unfinished) - sum(bool(trial.job) for trial in sweep.trials)
            check_admission(flags, kind.submit_flags(waiting[0]), kind.training(waiting[0], None), at_a_time, shown.say)
    shown.say(
        f"sweep {sweep.name}: {len(sweep.trials)} trial(s), {unfinished} of them to be trained, at most {parallel} at "
        f"a time; the list of trials is {book.address}"
    )
    return Engine(sweep, book, kind, shown, parallel=parallel, rungs=rungs).run()


def _check(flags: SweepFlags | LocalSweepFlags) -> None:
    if "://" in flags.folder:
        raise UsageError(
            f"--folder={redacted(flags.folder)} is a folder of this machine; on a cluster --output=gs://… or s3://… "
            "keeps the runs and the list of trials in a bucket"
        )
    if isinstance(flags, LocalSweepFlags):
        local_flags.check(flags)
    else:
        flags.check_trials()
        check(flags)
    longest = f"{flags.name}-{grid.MOST_TRIALS}"
    if not flags.name.replace("-", "a").isalnum() or not flags.name.isascii() or len(longest) > 53:
        raise UsageError(
            f"--name={flags.name} must be a name of lower-case letters, digits and hyphens, of at most "
            f"{53 - len(longest) + len(flags.name)} characters, since trials are called NAME-1, NAME-2, …"
        )


def _wanted(flags: SweepFlags | LocalSweepFlags, training: Sequence[str]) -> tuple[Sweep, int]:
    """The sweep that the flags ask for, and the epochs of a trial."""
    if not flags.grid:
        raise UsageError("a sweep needs --grid, such as --grid learning_rate=1e-3,3e-4")
    values = grid.parse(flags.grid)
    combined = grid.combinations(values, flags.random, flags.name)
    code = code_folder.read(flags.code) if flags.code else None
    with code_folder.importable(code):
        common = grid.check(combined, training, halving=flags.halving)
    if code and isinstance(flags, LocalSweepFlags):  # On a cluster the chart's values may name the experiment.
        for experiment in {one.get("experiment", common.experiment): None for one in combined}:
            check_module(code, experiment)
    if flags.halving and isinstance(flags, SweepFlags) and not flags.output:
        raise UsageError(
            "--halving without an output: a trial goes on from its own checkpoint, which is gone with its pods; add "
            "--output=gs://… (or another bucket) or pvc:NAME, or take --local"
        )
    return Sweep(
        name=flags.name,
        grid=values,
        random=flags.random,
        halving=flags.halving,
        training=tuple(training),
        trials=[Trial(number, one) for number, one in enumerate(combined, 1)],
        metric=flags.metric,
    ), common.epochs


def _resumed(book: Book, wanted: Sweep, flags: SweepFlags | LocalSweepFlags, rungs: int) -> Sweep:
    """The sweep as it was left, which must be the one that is asked for; or the one that is, where there is none."""
    left = book.open()
    if left is None:
        return wanted
    for what in ("grid", "random", "halving", "training"):
        if getattr(left, what) != getattr(wanted, what):
            raise UsageError(
                f"{book.address} is the list of another sweep, whose {what} was {_shown(getattr(left, what))}; give "
                "the same flags to go on with it, or --name=another"
            )
    # What is passed on to a training process is what was asked for here, whoever may write the list.
    made = [(trial.number, trial.flags) for trial in left.trials]
    if made != [(trial.number, trial.flags) for trial in wanted.trials] or any(
        trial.rung >= max(1, rungs) for trial in left.trials
    ):
        raise DataError(f"{book.address} has other trials than its grid makes: it is damaged; take --name=another")
    left.metric = flags.metric or left.metric
    for trial in left.trials:
        if trial.state == FAILED and flags.retry_failed:
            trial.state = WAITING
    return left


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"--grid {name}={','.join(values)}" for name, values in value.items())
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _status(flags: SweepFlags | LocalSweepFlags) -> int:
    """Shows how a sweep stands, as its list of trials and the runs of those that go on tell."""
    place = _place(flags)
    try:
        sweep = trials.read(place, flags.name)
        if sweep is None:
            where = printable(place.url)
            raise LaunchError(f"there is no sweep {flags.name} in {where}", LaunchCode.NOT_STARTED)
        sweep.metric = flags.metric or sweep.metric
        running = [trial for trial in sweep.trials if trial.state == RUNNING]
        names = place.children()[0] if running else []
        for trial in running:
            for name in names:
                if trial.made(name):
                    _look_at(trial, RunFolder(place, name))
    except (StorageError, DataError) as error:
        raise LaunchError(f"the sweep {flags.name} cannot be read: {error}") from None
    shown: SweepView = view.JsonView() if flags.json else view.PlainView()
    measured = {name for trial in sweep.trials for name in trial.metrics}
    if flags.metric and measured and flags.metric not in measured:
        raise UsageError(f"--metric={flags.metric} is measured by no trial; they have: {', '.join(sorted(measured))}")
    shown.end(sweep)
    all_failed = all(trial.state == FAILED for trial in sweep.trials)
    return LaunchCode.TRAINING if all_failed else LaunchCode.DONE


def _look_at(trial: Trial, run: RunFolder) -> None:
    """Takes how far a trial is from its event files."""
    found, epochs = event_scalars.newest(run)
    if found:
        trial.metrics, trial.epochs = found, epochs


def _folder(flags: SweepFlags | LocalSweepFlags) -> pathlib.Path:
    return pathlib.Path(flags.folder) / flags.name


def _in_bucket(flags: SweepFlags | LocalSweepFlags) -> bool:
    """Whether the list lies beside the runs in a bucket."""
    return isinstance(flags, SweepFlags) and "://" in flags.output


def _book(flags: SweepFlags | LocalSweepFlags) -> Book:
    if _in_bucket(flags):
        return StoreBook(open_store(flags.output), flags.name)
    return FileBook(_folder(flags), flags.name)


def _place(flags: SweepFlags | LocalSweepFlags) -> Folders:
    return open_store(flags.output) if _in_bucket(flags) else LocalFolder(_folder(flags))
