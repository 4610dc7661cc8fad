"""How long a run of two workers stands still when one is lost, with and without a warm spare.

The time is from the signal to the next completed step in worker 0's log, which is what a user would see.
"""

import collections
import contextlib
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from bench.report.table import Row
from trainer.core.log_lines import Progress, StateLine
from trainer.core.process import spawn

ROUNDS = 5
LIMITS = {signal.SIGKILL: 3.0, signal.SIGSTOP: 13.0}  # Seconds, with a warm spare.
_DEADLINE = 180.0
_WARM_STEPS = 200  # Between a recovery and the next signal.


class Run:
    """A run on this machine, as the lines of its launcher show it."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._changed = threading.Condition()
        self._states: dict[int, StateLine] = {}
        self._first_steps: dict[int, float] = {}  # By attempt: when its first progress line came.
        self._progress: Progress | None = None
        self._last = collections.deque[str](maxlen=30)
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def lose(self, number: signal.Signals, *, spare: bool, worker: int = 1) -> float:
        """Sends a signal to a worker's training process; seconds until the next step is completed."""
        begun = self._progress.step if self._progress else 0
        self._wait(lambda: self._progress is not None and self._progress.step >= begun + _WARM_STEPS)
        self._wait(lambda: all(state.spare == "ready" or not spare for state in self._states.values()))
        state = self._states[worker]
        sent = time.monotonic()
        os.kill(state.pid, number)
        self._wait(lambda: max(self._first_steps) > state.attempt)
        return self._first_steps[max(self._first_steps)] - sent

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, _DEADLINE):
                raise SystemExit("the run does not go on; it printed:\n" + "\n".join(self._last))

    def _read(self) -> None:
        for line in self._process.stdout or ():
            text, now = line.decode(errors="replace").rstrip(), time.monotonic()
            with self._changed:
                self._last.append(text)
                if state := StateLine.parse(text):
                    self._states[state.worker] = state
                if progress := Progress.parse(text):
                    self._progress = progress
                    self._first_steps.setdefault(progress.attempt, now)
                self._changed.notify_all()


@contextlib.contextmanager
def running(*, spare: bool, workers: int = 2) -> Iterator[Run]:
    """Workers on the embedded MNIST, with the default flags."""
    with tempfile.TemporaryDirectory() as folder:
        launcher_flags = ("--local", f"--workers={workers}", "--max_restarts=100", f"--warm_spare={str(spare).lower()}")
        flags = (f"--run_dir={pathlib.Path(folder) / 'run'}", "--epochs=100000", "--log_every=0.5")
        command = (sys.executable, "-m", "trainer.launch", *launcher_flags, "--", *flags)
        process = spawn(command, os.environ, output=subprocess.PIPE)
        try:
            yield Run(process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def measure() -> Iterator[Row]:
    """Kills worker 1's training process ROUNDS times with each signal; yields the medians, in seconds."""
    for spare in (True, False):
        with running(spare=spare) as run:
            for number, limit in LIMITS.items():
                seconds = [run.lose(number, spare=spare) for _ in range(ROUNDS)]
                kind = "a warm spare" if spare else "no spare"
                what = f"{number.name} of one of two workers to the next step, {kind}, seconds (median of {ROUNDS})"
                yield Row(what, statistics.median(seconds), f"≤ {limit:g}" if spare else "")
