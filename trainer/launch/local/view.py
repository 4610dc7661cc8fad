"""What a person sees of a fleet on this machine: a live screen on a terminal, plain lines elsewhere."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import rich.console
import rich.live
import rich.progress
import rich.table
import rich.text

from trainer.core.log_lines import Progress, StateLine, data_wait_text, metrics_text
from trainer.core.result_figures import sound
from trainer.core.safe_text import one_line, printable
from trainer.launch.codes import LaunchCode
from trainer.launch.report.verdict import Verdict
from trainer.launch.report.view import JsonView


class FleetView(Protocol):
    """Takes what is known of the fleet."""

    def state(self, state: StateLine, line: str) -> None:
        """An agent's state, and the line it came in."""

    def progress(self, progress: Progress, line: str) -> None:
        """A worker's progress, and the line it came in."""

    def say(self, text: str) -> None:
        """A line for a person."""


class PlainFleetView:
    """Prints lines as they come: the agents' states, worker 0's progress, and what is said."""

    def state(self, state: StateLine, line: str) -> None:  # noqa: ARG002
        """Prints the line."""
        print(printable(line), flush=True)

    def progress(self, progress: Progress, line: str) -> None:
        """Prints the line of worker 0; those of the others say the same."""
        if progress.worker == 0:
            print(printable(line), flush=True)

    def say(self, text: str) -> None:
        """Prints the text."""
        print(printable(text, colours=True), flush=True)


class JsonFleetView:
    """A JSON object on each line, as of a run on a cluster: notices, logs, the progress of worker 0, the verdict."""

    def __init__(self) -> None:
        self._view = JsonView()

    def state(self, state: StateLine, line: str) -> None:
        """Writes the line as one of the worker's log."""
        self._view.log(state.worker, line)

    def progress(self, progress: Progress, line: str) -> None:
        """Writes how far worker 0 is; the others say the same."""
        if progress.worker == 0:
            self._view.log(0, line)

    def say(self, text: str) -> None:
        """Writes a notice."""
        self._view.say(text)

    def end(self, code: LaunchCode, headline: str, result: Mapping[str, Any] | None) -> None:
        """Writes how the run ended, and its result if it has one."""
        self._view.end(Verdict(code=code, headline=headline, facts={} if result is None else {"result": sound(result)}))


class LiveFleetView:
    """Draws a line for each worker and one bar for the run, below what is said."""

    def __init__(self, workers: int, console: rich.console.Console) -> None:
        """Lays out the screen; entering `live` draws it."""
        self._states: list[StateLine | None] = [None] * workers
        self._steps = [0] * workers
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("starting", total=None)
        self.live = rich.live.Live(self._screen(), console=console, refresh_per_second=4)

    def state(self, state: StateLine, line: str) -> None:  # noqa: ARG002
        """Redraws its worker's line."""
        if state.worker >= len(self._states):
            return
        self._states[state.worker] = state
        self.live.update(self._screen())

    def progress(self, progress: Progress, line: str) -> None:  # noqa: ARG002
        """Redraws the bar and its worker's line."""
        if progress.worker >= len(self._steps):
            return
        self._steps[progress.worker] = progress.step
        if progress.worker == 0:
            self._bar.update(
                self._task,
                total=progress.steps,
                completed=progress.step,
                description=one_line(
                    f"epoch {progress.epoch}/{progress.epochs}  {metrics_text(progress.first_metrics())}  "
                    f"{progress.examples_per_second:.0f} examples/s{data_wait_text(progress)}"
                ),
            )
        self.live.update(self._screen())

    def say(self, text: str) -> None:
        """Prints the text above the screen."""
        line = rich.text.Text(printable(text, colours=True))
        self.live.console.print(line, highlight=False, soft_wrap=True)

    def _screen(self) -> rich.console.Group:
        table = rich.table.Table(box=None, pad_edge=False)
        for title in ("worker", "state", "attempt", "step", "restarts"):
            table.add_column(title, justify="left" if title == "state" else "right")
        for index, state in enumerate(self._states):
            known = (state.state, str(state.attempt), str(self._steps[index]), str(state.restarts)) if state else ()
            table.add_row(str(index), *(known or ("starting", "", "", "")))
        return rich.console.Group(table, self._bar)


@contextlib.contextmanager
def open_fleet_view(workers: int) -> Iterator[PlainFleetView | LiveFleetView]:
    """The view that fits standard output, for a person."""
    if not sys.stdout.isatty():
        yield PlainFleetView()
        return
    view = LiveFleetView(workers, rich.console.Console())
    with view.live:
        yield view
