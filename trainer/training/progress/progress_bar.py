"""How a person or an agent sees a worker's progress: a live bar on a terminal, parseable lines elsewhere."""

import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from trainer.core import threads
from trainer.core.log_lines import Progress, data_wait_text, metrics_text

_BAR_SECONDS = 0.2


class Display:
    """Shows progress from a thread of its own until it is closed.

    Args:
      read: gives the progress as it is now; None before the first step. Called from another thread.
      every: seconds between lines when not on a terminal.
    """

    def __init__(self, read: Callable[[], Progress | None], *, every: float) -> None:
        self._read = read
        self._bar = _Bar() if sys.stdout.isatty() else None
        self._every = _BAR_SECONDS if self._bar else every
        self._closed = threading.Event()
        self._failure: BaseException | None = None  # What has ended the thread.
        self._thread = threading.Thread(target=self._run, name="display", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        if self._bar:
            self._bar.close()

    def show(self, progress: Progress) -> None:
        """Shows an event that must not be missed: an attempt's first step, an epoch's end.

        Raises:
          Exception: what has ended the thread, without which a run looks as if it hung.
        """
        if self._failure is not None:
            raise threads.as_exception(self._failure)
        if self._bar is None:
            print(progress.format(), flush=True)
        elif progress.ends_epoch:
            self._bar.epoch(progress)
        else:
            self._bar.update(progress)

    def _run(self) -> None:
        try:
            self._show_regularly()
        except BaseException as error:
            self._failure = error
            traceback.print_exception(error)

    def _show_regularly(self) -> None:
        while not self._closed.wait(self._every):
            progress = self._read()
            if progress is None:
                continue
            if self._bar:
                self._bar.update(progress)
            else:
                print(progress.format(), flush=True)


class _Bar:
    """A line that is drawn again and again, and one that stays for each epoch."""

    def __init__(self) -> None:
        from rich import progress  # Only a terminal pays for the import.

        self._bar = progress.Progress(
            progress.TextColumn("epoch {task.fields[epoch]}"),
            progress.BarColumn(bar_width=None),
            progress.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            progress.TextColumn("{task.fields[metrics]}", markup=False),  # Whoever names a metric writes no markup.
            progress.TextColumn("{task.fields[speed]:,.0f} examples/s{task.fields[wait]}"),
            progress.TimeRemainingColumn(),
            speed_estimate_period=5.0,
        )
        self._task: Any = None
        self._epoch_began = time.monotonic()

    def update(self, progress: Progress) -> None:
        shown: dict[str, Any] = {
            "epoch": f"{progress.epoch}/{progress.epochs}",
            "metrics": metrics_text(progress.first_metrics()).replace("  ", " "),
            "speed": progress.examples_per_second,
            "wait": data_wait_text(progress),
        }
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("", total=progress.steps, completed=progress.step, **shown)
        self._bar.update(self._task, completed=progress.step, **shown)

    def epoch(self, progress: Progress) -> None:
        self.update(progress)
        now = time.monotonic()
        self._bar.console.print(
            "  ".join(
                [
                    f"epoch {progress.epoch}/{progress.epochs}",
                    metrics_text(progress.metrics),
                    *([metrics_text(progress.validation, prefix="val_")] if progress.validation else []),
                    f"{progress.examples_per_second:,.0f} examples/s",
                    f"{now - self._epoch_began:.1f} s",
                ]
            ),
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._epoch_began = now

    def close(self) -> None:
        self._bar.stop()
