"""A table of runs: which columns it has, in which order its rows stand, and how it is printed."""

import collections
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import rich.console
import rich.table
import rich.text

from trainer.core.exit_codes import UsageError
from trainer.core.metric_mode import more_is_better
from trainer.core.safe_text import one_line, redacted
from trainer.launch.report.verdict import duration
from trainer.launch.runs.summary import BROKEN, DONE, Plain, RunSummary

_COLUMNS = ("name", "when", "workers", "metric", "time", "restarts", "goodput")  # Which --sort takes besides flags.
_WIDEST = 40  # Characters of a flag's value.
_UNBOUND = 1000  # Columns where there is no terminal.
_STYLES = {DONE: "", BROKEN: "red"}


def chosen_metric(measured: Iterable[Mapping[str, float]], wanted: str = "") -> str:
    """The metric to compare runs by: the wanted one, or else the first of the usual ones that most of them have.

    Args:
      measured: the metrics of each run.
      wanted: the metric that somebody asks for; "": whichever.

    Returns:
      Its name; "" where nothing was measured.

    Raises:
      UsageError: none has the wanted one.
    """
    counts = collections.Counter(name for metrics in measured for name in metrics)
    if wanted:
        if counts and wanted not in counts:
            raise UsageError(f"--metric={wanted} is measured by none of these runs; they have: {listed(counts)}")
        return wanted
    usual = [name for name in ("val_accuracy", "val_loss", "accuracy", "loss") if name in counts]
    validation = sorted(name for name in counts if name.startswith("val_"))
    return max([*usual, *validation, *sorted(counts)], key=lambda name: counts[name], default="")


def differing_flags(runs: Sequence[RunSummary]) -> list[str]:
    """The flags that do not have the same value in all runs of which it is known, in the order of their names.

    Not among them are --epochs, as every list says how many were trained.
    """
    given = {name for run in runs for name in run.flags} - {"epochs"}
    return sorted(name for name in given if len({_text(value) for value in _known(runs, name)}) > 1)


def _known(runs: Sequence[RunSummary], name: str) -> list[Plain]:
    """The values of a flag in the runs of which it is known."""
    return [value for run in runs if (value := run.flag(name)) is not None or name in run.flags]


def in_order(runs: Sequence[RunSummary], sort: str, metric: str) -> list[RunSummary]:
    """The runs sorted by a column, a metric or a flag: best, newest or most first; runs that have no such value last.

    Raises:
      UsageError: there is none of that name.
    """
    if not sort:
        return list(runs)
    name = sort.removeprefix("-")
    measured = sorted({one for run in runs for one in run.metrics})
    flags = sorted({one for run in runs for one in run.flags})
    if name not in (*_COLUMNS, *measured, *flags) and runs:
        raise UsageError(f"--sort={sort} is none of: {listed([*_COLUMNS, *measured, *flags])}")
    keys = {run.name: _key(run, name, metric) for run in runs}
    known = [run for run in runs if keys[run.name] is not None]
    rest = [run for run in runs if keys[run.name] is None]
    best_first = name in ("when", "workers", "goodput") or (
        (name == "metric" or name in measured) and more_is_better(metric if name == "metric" else name)
    )
    known.sort(key=lambda run: _comparable(keys[run.name]), reverse=best_first != sort.startswith("-"))
    return [*known, *rest]


def _key(run: RunSummary, name: str, metric: str) -> Any:
    """The value to sort by; None: it has none."""
    if run.state == BROKEN and name != "name":
        return None
    fixed: dict[str, Any] = {
        "name": run.name, "when": run.written, "workers": run.workers, "time": run.seconds, "restarts": run.restarts,
        "goodput": run.goodput,
    }  # fmt: skip
    if name in fixed:
        return fixed[name]
    name = metric if name == "metric" else name
    return run.metrics.get(name, run.flag(name))


def _comparable(value: Any) -> tuple[int, Any]:
    """Numbers before texts, so that any two can be compared."""
    return (0, float(value)) if isinstance(value, int | float) else (1, str(value))


def print_runs(runs: Sequence[RunSummary], metric: str, *, terminal: bool) -> None:
    """Prints a row a run."""
    console = rich.console.Console(width=None if terminal else _UNBOUND)
    flags = differing_flags(runs)
    table = rich.table.Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAME", "WHEN", "WORKERS", *flags, metric or "METRIC", "EPOCHS", "TIME", "RESTARTS", "GOODPUT"):
        numeric = title not in ("NAME", "WHEN")
        table.add_column(
            rich.text.Text(one_line(title, _WIDEST)),
            justify="right" if numeric else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for run in runs:
        table.add_row(
            *(rich.text.Text(cell) for cell in _cells(run, flags, metric)), style=_STYLES.get(run.state, "dim")
        )
    console.print(table)
    for run in runs:
        if run.state == BROKEN:
            line = f"{one_line(run.name, 200)} is broken: {run.problem}"
            console.print(rich.text.Text(line, style="red"), soft_wrap=True)


def _cells(run: RunSummary, flags: Sequence[str], metric: str) -> list[str]:
    if run.state == BROKEN:
        return [one_line(run.name, 200), BROKEN]
    value = run.metrics.get(metric)
    return [
        one_line(run.name, 200),
        when(run.written) if run.state == DONE else run.state,
        str(run.workers or "?"),
        *(one_line(_text(run.flag(name)), _WIDEST) for name in flags),
        "" if value is None else number(value),
        str(run.epochs or ""),
        duration(run.seconds),
        str(run.restarts),
        "" if run.goodput is None else f"{run.goodput:.0%}",
    ]


def when(written: float) -> str:
    """A time for a person, in this machine's zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(written)) if 0 < written < 2**33 else "?"


def number(value: float) -> str:
    """A metric's value for a person."""
    if value == 0 or not math.isfinite(value) or 0.001 <= abs(value) < 1000:
        return f"{value:.4f}"
    return f"{value:.3g}" if abs(value) < 1 or abs(value) >= 10**12 else f"{value:,.0f}"


def flags_text(flags: Mapping[str, object]) -> str:
    """Flags for a person, in one line."""
    return " ".join(f"--{one_line(name, _WIDEST)}={one_line(_text(value), _WIDEST)}" for name, value in flags.items())


def _text(value: object) -> str:
    if value is None:
        return ""
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:.10g}"
        if isinstance(value, float)
        else redacted(str(value))
    )


def listed(names: Iterable[str]) -> str:
    """Names for a person, in their order, and how many more there are."""
    shown = [one_line(name, _WIDEST) for name in sorted(names)]
    return ", ".join(shown[:30]) + (f" and {len(shown) - 30} more" if len(shown) > 30 else "")
