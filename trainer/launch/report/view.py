"""What a person sees of a run on a cluster: one live screen on a terminal, plain lines elsewhere, JSON for programs."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Protocol

import rich.console
import rich.live
import rich.text

from trainer.core.log_lines import Progress, StateLine
from trainer.core.safe_text import one_line, printable
from trainer.launch.report.lines import JsonLines, PlainLines, ScreenLines
from trainer.launch.report.screen import log_text, progress_texts, worker_parts
from trainer.launch.report.snapshot import Snapshot, reason_lines
from trainer.launch.report.verdict import Verdict

_OTHER_LINES = 9  # Lines of the live screen that are not a worker's.
_UNBOUND = 1000  # Columns where there is no terminal.


class View(Protocol):
    """Shows a run, as it is told of it."""

    rows: int  # How many workers get a line of their own; the logs of these are read, so that it can say what they do.

    def say(self, text: str, **facts: object) -> None:
        """Shows a notice for a person; `facts` say the same to a program."""

    def log(self, worker: int, text: str) -> None:
        """Shows a line of a worker's log."""

    def show(self, snapshot: Snapshot) -> None:
        """Shows how the run looks now."""

    def end(self, verdict: Verdict) -> None:
        """Shows how the run ended."""


class PlainView(PlainLines):
    """Plain lines: what changes, when it changes."""

    rows = 0

    def __init__(self, *, prefixed: bool) -> None:
        """Makes a view; `prefixed` puts the worker before each line of a log, on a terminal in its colour."""
        self._prefixed = prefixed
        self._terminal = rich.console.Console() if prefixed and sys.stdout.isatty() else None
        self._said: tuple[str, ...] = ()

    def log(self, worker: int, text: str) -> None:
        """Prints a line of a log."""
        if self._terminal:
            self._terminal.print(log_text(worker, text, prefixed=True), soft_wrap=True, highlight=False)
        else:
            text = printable(text, colours=True)
            print(f"worker {worker} | {text}" if self._prefixed else text, flush=True)

    def show(self, snapshot: Snapshot) -> None:
        """Prints what has changed in the counts of workers and in the reasons why some wait."""
        lines = (f"workers: {snapshot.summary()}", *(f"  {line}" for line in reason_lines(snapshot.pending)))
        for line in lines:
            if line not in self._said:
                self.say(line)
        self._said = lines

    def end(self, verdict: Verdict) -> None:
        """Prints the verdict."""
        self.say(verdict.text)


class JsonView(JsonLines):
    """A JSON object on each line."""

    rows = 0

    def __init__(self) -> None:
        self._shown: object = None

    def log(self, worker: int, text: str) -> None:
        """Writes a line of a log, or the progress that it tells."""
        progress = Progress.parse(text)
        if progress is not None:
            self._write("progress", progress.flat())
        else:
            self._write("log", {"worker": worker, "text": text})

    def show(self, snapshot: Snapshot) -> None:
        """Writes the counts of workers and the reasons why some wait, when they have changed."""
        pending = [{"reason": r.word, "text": r.text, "workers": list(r.workers)} for r in snapshot.pending]
        shown = {"workers": snapshot.counts(), "pending": pending, "attempt": snapshot.attempt}
        if shown != self._shown:
            self._write("state", shown)
            self._shown = shown

    def end(self, verdict: Verdict) -> None:
        """Writes the verdict."""
        said = {"exit_code": int(verdict.code), "text": verdict.headline, "lines": verdict.lines}
        self._write("verdict", {**said, "goes_on": verdict.goes_on, **verdict.facts})


class LiveView(ScreenLines):
    """A screen that is redrawn at the bottom of the terminal; notices and log lines scroll above it."""

    rows = 32

    def __init__(self, console: rich.console.Console, *, prefixed: bool) -> None:
        super().__init__(console)
        self._prefixed = prefixed
        self._snapshot: Snapshot | None = None
        self.live = rich.live.Live(get_renderable=self.screen, console=console, refresh_per_second=4)

    def log(self, worker: int, text: str) -> None:
        """Prints a line of a log above the screen, unless the screen itself shows what it tells."""
        if Progress.parse(text) or StateLine.parse(text):
            return
        self._console.print(log_text(worker, text, prefixed=self._prefixed), soft_wrap=True, highlight=False)

    def show(self, snapshot: Snapshot) -> None:
        """Keeps the snapshot for the next drawing."""
        self._snapshot = snapshot

    def end(self, verdict: Verdict) -> None:
        """Ends the screen and prints the verdict below it."""
        self.live.stop()
        headline, *lines = verdict.text.splitlines()
        colour = "green" if verdict.code == 0 else "red"
        self._console.print(
            rich.text.Text(printable(headline), style=f"bold {colour}"), soft_wrap=True, highlight=False
        )
        for line in lines:
            self.say(line)

    def screen(self) -> rich.console.RenderableType:
        """Draws the newest snapshot."""
        snapshot = self._snapshot
        if snapshot is None:
            return rich.text.Text("…")
        waiting = reason_lines(snapshot.pending)
        # The logs of further workers are not read: there is nothing to show of what they do.
        space = min(self.rows, max(1, self._console.height - _OTHER_LINES - len(waiting)))
        width = self._console.width
        parts = worker_parts(snapshot, space, width)
        for line in waiting:
            parts.append(rich.text.Text(one_line(line), style="yellow", no_wrap=True, overflow="ellipsis"))
        return rich.console.Group(*parts, *progress_texts(snapshot, width))


class TableView(PlainView):
    """The live screen at one moment, as lines that stay."""

    rows = LiveView.rows

    def __init__(self) -> None:
        super().__init__(prefixed=False)
        self._console = rich.console.Console(width=None if sys.stdout.isatty() else _UNBOUND)

    def show(self, snapshot: Snapshot) -> None:
        """Prints the table, the reasons why some workers wait, and the progress."""
        for part in worker_parts(snapshot, self.rows, self._console.width):
            self._console.print(part)
        for line in reason_lines(snapshot.pending):
            self.say(line)
        for part in progress_texts(snapshot, self._console.width):
            self._console.print(part)


@contextlib.contextmanager
def open_view(*, json_lines: bool, prefixed: bool, live: bool = True) -> Iterator[View]:
    """The view that fits standard output; `live` allows a screen."""
    if json_lines:
        yield JsonView()
    elif not live or not sys.stdout.isatty():
        yield PlainView(prefixed=prefixed)
    else:
        view = LiveView(rich.console.Console(), prefixed=prefixed)
        with view.live:
            yield view
