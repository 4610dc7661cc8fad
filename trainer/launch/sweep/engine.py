"""Runs the trials of a sweep, so many at a time, and keeps the list of them up to date."""

import dataclasses
import queue
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence

from trainer.core.exit_codes import UsageError
from trainer.core.safe_text import one_line
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.flags import PROGRAM
from trainer.launch.report.verdict import duration
from trainer.launch.runs.table import chosen_metric, listed, number
from trainer.launch.runs.trials import DONE, FAILED, RUNNING, STOPPED, WAITING, Sweep, Trial
from trainer.launch.sweep import halving, trial_process
from trainer.launch.sweep.book import Book
from trainer.launch.sweep.halving import best_first
from trainer.launch.sweep.trial_kind import TrialKind
from trainer.launch.sweep.trial_process import SweepEvents, TrialExit, TrialLine
from trainer.launch.sweep.view import SweepView

_LEAVE_SECONDS = 60.0  # For trials' launchers that were told to end, before they are killed.
_SAVE_SECONDS = 30.0  # Between two tries to keep a list that could not be kept.


@dataclasses.dataclass
class Running:
    """A trial that runs, or is cleared up after."""

    trial: Trial
    process: subprocess.Popen[bytes]
    place: int  # Among those that run at a time.
    began: float
    before: float  # Seconds that the trial had taken before.
    followed: bool  # It may have been started by an earlier launcher.
    clear_up: Sequence[str] = ()  # Once it has ended: the arguments of its launcher, which clears up.


class Engine:
    """Everything happens in the thread that calls `run`; others only read what the trials print."""

    def __init__(
        self, sweep: Sweep, book: Book, kind: TrialKind, view: SweepView, *, parallel: int, rungs: list[int]
    ) -> None:
        """Starts nothing.

        Args:
          sweep: the trials and what has become of them so far.
          book: keeps it.
          kind: runs trials.
          view: takes what a person is to see.
          parallel: trials at a time.
          rungs: of successive halving, the epochs of each rung; empty: all trials are trained to their end.
        """
        self._sweep, self._book, self._kind, self._view = sweep, book, kind, view
        self._parallel, self._rungs = parallel, rungs
        self._events: SweepEvents = queue.SimpleQueue()
        self._running: dict[int, Running] = {}  # By the trial's number.
        self._held: set[int] = set()  # Trials that were not admitted while others ran.
        self._lost: set[int] = set()  # Trials that go on, as far as is known, and can no longer be followed.
        self._interrupted = False
        self._kill_at = float("inf")
        self._error: UsageError | None = None  # Why no further trial is worth its time.
        self._unsaved_since: float | None = None

    def run(self) -> LaunchCode:
        """Runs the sweep to its end, or until it is interrupted.

        Raises:
          UsageError: the trials do not measure the metric.
          LaunchError: the list of trials cannot be kept.
        """
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, lambda number, _: self._events.put(signal.Signals(number)))
        try:
            self._save()
            self._fill()
            while self._running:
                self._handle_event()
                if not self._interrupted:
                    self._fill()
                elif time.monotonic() > self._kill_at:
                    self._signal_all(signal.SIGKILL)
        finally:
            self._signal_all(signal.SIGKILL)
        self._save()
        if self._error:
            raise self._error
        if self._interrupted:
            return LaunchCode.INTERRUPTED
        if self._lost:
            return LaunchCode.FAILED
        ended_well = any(trial.state in (DONE, STOPPED) for trial in self._sweep.trials)
        return LaunchCode.DONE if ended_well else LaunchCode.TRAINING

    def _fill(self) -> None:
        """Starts as many trials as may run."""
        if self._rungs and not self._running:
            self._promote()
        # Those first that may have been started before, and go on.
        out = {*self._running, *self._held, *self._lost}
        trials = [
            trial for trial in self._sweep.trials if trial.state in (WAITING, RUNNING) and trial.number not in out
        ]
        for trial in sorted(trials, key=lambda trial: (trial.state != RUNNING, trial.number)):
            if len(self._running) + len(self._lost) >= self._parallel:
                return
            self._start(trial)

    def _promote(self) -> None:
        if self._sweep.metric and (
            better := halving.promote(self._sweep.trials, self._sweep.metric, len(self._rungs) - 1)
        ):
            epochs = self._rungs[better[0].rung]
            numbers = ", ".join(str(trial.number) for trial in better)
            self._view.say(f"{len(better)} trial(s) go on to epoch {epochs}: {numbers}")
            self._save()

    def _start(self, trial: Trial) -> None:
        place = min({*range(self._parallel)} - {running.place for running in self._running.values()})
        followed = bool(trial.job) or trial.state == RUNNING
        epochs = self._rungs[trial.rung] if self._rungs else None
        try:
            arguments = self._kind.begin(trial, epochs)
            process = trial_process.start(trial.number, arguments, self._kind.cores(place), self._events)
        except (LaunchError, OSError, RuntimeError) as error:
            trial.state, trial.exit_code = FAILED, int(LaunchCode.FAILED)
            ours = isinstance(error, LaunchError)
            trial.reason = str(error) if ours else f"it cannot be started on this machine: {error}"
            self._tell(trial, f"failed: {trial.reason}")
            self._save()
            return
        trial.state, trial.exit_code, trial.reason = RUNNING, None, ""
        self._running[trial.number] = Running(trial, process, place, time.monotonic(), trial.seconds, followed)
        flags = " ".join(f"--{name}={value}" for name, value in trial.flags.items())
        self._tell(trial, f"{'goes on' if followed or trial.rung else 'begins'}: {one_line(flags)}")
        self._save()

    def _handle_event(self) -> None:
        """Waits a moment for the next event, and handles it."""
        try:
            event = self._events.get(timeout=0.5)
        except queue.Empty:
            if self._unsaved_since is not None and time.monotonic() > self._unsaved_since + _SAVE_SECONDS:
                self._save()
            return
        match event:
            case TrialLine(number, _, _) if (running := self._running.get(number)) and not running.clear_up:
                self._handle_line(running, event)
            case TrialExit(number, code) if running := self._running.get(number):
                self._handle_exit(running, code)
            case signal.Signals() if not self._interrupted:
                self._leave(f"interrupted; {'they go on' if self._kind.outlives else 'the trials save and leave'}")
            case signal.Signals():  # A second one.
                self._kill_at = 0.0

    def _handle_line(self, running: Running, line: TrialLine) -> None:
        trial, job = running.trial, running.trial.job
        epoch_ended = self._kind.read(trial, line)
        trial.seconds = running.before + time.monotonic() - running.began
        if epoch_ended:
            self._choose_metric(trial)
            value = trial.metrics.get(self._sweep.metric)
            reached = "" if value is None else f", {self._sweep.metric} {number(value)}"
            self._tell(trial, f"has trained {trial.epochs} epoch(s){reached}")
        if trial.job != job:
            self._save()

    def _handle_exit(self, running: Running, code: int) -> None:
        trial = running.trial
        if running.clear_up:  # What it left on the cluster is cleared away, or cannot be.
            if code:
                self._say_left(trial, f"could not be removed ({code})", running.clear_up)
            del self._running[trial.number]
            self._held.clear()  # It has made room.
            return
        trial.seconds = running.before + time.monotonic() - running.began
        clear_up = self._settle(running, code)
        self._save()
        if clear_up and self._interrupted:
            self._say_left(trial, "stays, as the sweep was interrupted", clear_up)
        elif clear_up:
            try:
                running.process = trial_process.start(trial.number, clear_up, (), self._events)
                running.clear_up = clear_up
                return
            except (OSError, RuntimeError) as error:  # This machine gives no more processes; the trial has ended well.
                self._say_left(trial, f"could not be removed: {error}", clear_up)
        del self._running[trial.number]
        if trial.state not in (WAITING, RUNNING):
            self._held.clear()  # It has made room.

    def _settle(self, running: Running, code: int) -> list[str]:
        """Says what has become of a trial whose launcher has ended; returns the arguments that clear up after it."""
        trial = running.trial
        if self._interrupted and code in (LaunchCode.INTERRUPTED, -signal.SIGKILL, -signal.SIGINT):
            trial.state = RUNNING if self._kind.outlives else WAITING
            return []
        clear_up = self._kind.end(trial, code)
        if code == LaunchCode.NOT_STARTED and running.followed and self._kind.outlives:
            trial.state = WAITING  # Its Job is gone, and nothing is known of it.
            self._tell(trial, f"begins anew: {trial.reason}")
        elif code == LaunchCode.NOT_STARTED and len(self._running) > 1 and not self._interrupted:
            trial.state = WAITING
            self._held.add(trial.number)
            self._tell(trial, f"waits until another has ended: {trial.reason}")
        elif code == LaunchCode.DONE and trial.metrics:
            trial.state, trial.exit_code = DONE, code
            self._choose_metric(trial)
            value = trial.metrics.get(self._sweep.metric)
            reached = "" if value is None else f": {self._sweep.metric} {number(value)}"
            best = " (the best so far)" if best_first(self._sweep.trials, self._sweep.metric)[:1] == [trial] else ""
            self._tell(trial, f"is done{reached} after {trial.epochs} epoch(s), {duration(trial.seconds)}{best}")
        elif trial.job:  # The API or the launcher failed, not the trial: the same command follows it.
            self._lost.add(trial.number)
            why = trial.reason or f"its launcher ended with {code}"
            self._tell(trial, f"goes on, but cannot be followed: {why}")
        else:
            trial.state, trial.exit_code = FAILED, code
            trial.reason = trial.reason or (
                f"no number: {listed(trial.diverged)}" if trial.diverged else "it measured nothing"
            )
            self._tell(trial, f"failed ({code}): {trial.reason}")
        return clear_up

    def _choose_metric(self, trial: Trial) -> None:
        """Takes the usual metric where none was asked for; ends a sweep whose trials do not have the one that was."""
        self._sweep.metric = self._sweep.metric or chosen_metric([trial.metrics])
        if self._sweep.metric not in (*trial.metrics, *trial.diverged) and trial.metrics and not self._error:
            self._error = UsageError(
                f"--metric={self._sweep.metric} is not measured by trial {trial.number}; it has: "
                f"{listed(trial.metrics)}; start again with one of these, and the trials go on"
            )
            self._sweep.metric = ""
            self._leave("no trial measures that metric")

    def _say_left(self, trial: Trial, why: str, clear_up: Sequence[str]) -> None:
        """Says that nothing clears up after a trial any more, and how a person does."""
        command = f"{PROGRAM} {shlex.join(clear_up)}"
        self._view.say(f"trial {trial.number}: what is left of it on the cluster {why}; `{command}` removes it")

    def _leave(self, why: str) -> None:
        """Ends the launchers of all trials."""
        self._interrupted, self._kill_at = True, time.monotonic() + _LEAVE_SECONDS
        self._view.say(why)
        self._signal_all(signal.SIGINT)

    def _signal_all(self, number: signal.Signals) -> None:
        for running in self._running.values():
            if running.process.poll() is None:
                running.process.send_signal(number)

    def _tell(self, trial: Trial, text: str) -> None:
        self._view.told(self._sweep, trial, text)

    def _save(self) -> None:
        """Keeps the list; where that is impossible for the moment it says so once, and tries again."""
        problem = self._book.save(self._sweep)
        if problem and self._unsaved_since is None:
            self._view.say(f"warning: {problem}; the sweep goes on")
        self._unsaved_since = time.monotonic() if problem else None
