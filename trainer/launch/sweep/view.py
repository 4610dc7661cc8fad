"""What a person sees of a sweep: one live table on a terminal, plain lines elsewhere, JSON for programs."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import rich.console
import rich.live
import rich.table
import rich.text

from trainer.core.safe_text import one_line, redacted, redacted_in
from trainer.launch.report.lines import JsonLines, PlainLines, ScreenLines
from trainer.launch.report.verdict import duration
from trainer.launch.runs.table import number
from trainer.launch.runs.trials import FAILED, RUNNING, WAITING, Sweep, Trial
from trainer.launch.sweep.halving import best_first

_WIDEST = 40  # Characters of a flag's value.
_OTHER_LINES = 4  # Lines of the live screen that are not a trial's.
_UNBOUND = 1000  # Columns where there is no terminal.
_STYLES = {RUNNING: "bold", FAILED: "red", WAITING: "dim"}


class SweepView(Protocol):
    """Shows a sweep, as it is told of it."""

    def say(self, text: str) -> None:
        """Shows a notice for a person."""

    def told(self, sweep: Sweep, trial: Trial, text: str) -> None:
        """Shows that something has become of a trial; `text` says it to a person."""

    def end(self, sweep: Sweep) -> None:
        """Shows how all trials stand at the end."""


class PlainView(PlainLines):
    """A line for whatever becomes of a trial, and the table at the end."""

    def told(self, sweep: Sweep, trial: Trial, text: str) -> None:  # noqa: ARG002
        """Prints the text."""
        self.say(f"trial {trial.number} {text}")

    def end(self, sweep: Sweep) -> None:
        """Prints the table and the best trial."""
        print_sweep(sweep, rich.console.Console(width=None if sys.stdout.isatty() else _UNBOUND))


class LiveView(ScreenLines):
    """The table, redrawn at the bottom of the terminal; what is said scrolls above it."""

    def __init__(self, console: rich.console.Console) -> None:
        super().__init__(console)
        self._sweep: Sweep | None = None
        self.live = rich.live.Live(get_renderable=self.screen, console=console, refresh_per_second=4)

    def told(self, sweep: Sweep, trial: Trial, text: str) -> None:
        """Redraws the table; a failure stays above it."""
        self._sweep = sweep
        if trial.state == FAILED:
            self.say(f"trial {trial.number} {text}")

    def end(self, sweep: Sweep) -> None:
        """Ends the screen and prints the whole table."""
        self._sweep = None
        self.live.stop()
        print_sweep(sweep, self._console)

    def screen(self) -> rich.console.RenderableType:
        """Draws the trials, as many as there is room for."""
        if self._sweep is None:
            return rich.text.Text("")
        return table(self._sweep, max(3, self._console.height - _OTHER_LINES))


class JsonView(JsonLines):
    """A JSON object on each line: `event` is `notice`, `trial` or, last, `sweep`."""

    def told(self, sweep: Sweep, trial: Trial, text: str) -> None:  # noqa: ARG002
        """Writes the trial as it is now."""
        self._write("trial", facts(trial))

    def end(self, sweep: Sweep) -> None:
        """Writes all trials, best first."""
        trials = [facts(trial) for trial in in_order(sweep)]
        told = {"name": sweep.name, "metric": sweep.metric or None, "counts": sweep.counts(), "trials": trials}
        self._write("sweep", told)


@contextlib.contextmanager
def open_view(*, json_lines: bool) -> Iterator[SweepView]:
    """The view that fits standard output."""
    if json_lines:
        yield JsonView()
    elif not sys.stdout.isatty():
        yield PlainView()
    else:
        view = LiveView(rich.console.Console())
        with view.live:
            yield view


def facts(trial: Trial) -> dict[str, Any]:
    """A trial for programs."""
    return dict(redacted_in(vars(trial)))


def in_order(sweep: Sweep) -> list[Trial]:
    """The trials, the best first, those that have no metric yet last."""
    ranked = best_first(sweep.trials, sweep.metric)
    # A trial that halving let go on knows more than one that it did not: its metric is of more epochs.
    ranked.sort(key=lambda trial: -trial.rung)
    known = {trial.number for trial in ranked}
    return [*ranked, *(trial for trial in sweep.trials if trial.number not in known)]


def table(sweep: Sweep, rows: int) -> rich.table.Table:
    """A row for each of the first trials, and what is left out."""
    drawn = rich.table.Table(box=None, pad_edge=False, header_style="bold")
    flags = list(sweep.grid)
    for title in ("TRIAL", *flags, sweep.metric or "METRIC", "EPOCHS", "TIME", "STATE"):
        left = title == "STATE"
        drawn.add_column(
            rich.text.Text(one_line(title, _WIDEST)),
            justify="left" if left else "right",
            no_wrap=True,
            overflow="ellipsis",
        )
    trials = in_order(sweep)
    shown = trials if len(trials) <= rows else trials[: rows - 1]
    for trial in shown:
        drawn.add_row(*map(rich.text.Text, _cells(trial, flags, sweep.metric)), style=_STYLES.get(trial.state, ""))
    if len(shown) < len(trials):
        drawn.caption = f"and {len(trials) - len(shown)} more"
        drawn.caption_justify = "left"
    return drawn


def print_sweep(sweep: Sweep, console: rich.console.Console) -> None:
    """Prints all trials, why some failed, and the best one."""
    console.print(table(sweep, len(sweep.trials)))
    for trial in sweep.trials:
        if trial.state == FAILED:
            _print(console, f"trial {trial.number} failed ({trial.exit_code}): {trial.reason}", "red")
    counts = ", ".join(f"{count} {state}" for state, count in sweep.counts().items())
    best = in_order(sweep)[:1] if best_first(sweep.trials, sweep.metric) else []
    for trial in best:
        flags = " ".join(f"--{name}={value}" for name, value in trial.flags.items())
        run = f" ({trial.runs[-1]})" if trial.runs else ""
        value = number(trial.metrics[sweep.metric])
        _print(console, f"best: trial {trial.number}{run}, {sweep.metric} {value}: {flags}", "green")
    _print(console, f"{sweep.name}: {counts}", "")


def _print(console: rich.console.Console, text: str, style: str) -> None:
    console.print(rich.text.Text(one_line(redacted(text)), style=style), soft_wrap=True, highlight=False)


def _cells(trial: Trial, flags: Sequence[str], metric: str) -> list[str]:
    value = trial.metrics.get(metric)
    return [
        str(trial.number),
        *(one_line(redacted(trial.flags.get(name, "")), _WIDEST) for name in flags),
        "" if value is None else number(value),
        str(trial.epochs or ""),
        duration(trial.seconds) if trial.seconds else "",
        trial.state if trial.state != FAILED else f"failed ({trial.exit_code})",
    ]
