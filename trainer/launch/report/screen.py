"""How a run is drawn on a terminal: a table of the workers, a bar of the progress. Pure: from a snapshot."""

import dataclasses
from collections.abc import Callable, Sequence

import rich.console
import rich.table
import rich.text

from trainer.core.log_lines import data_wait_text, metrics_text
from trainer.core.safe_text import one_line, printable
from trainer.launch.report.snapshot import Row, Snapshot, bar, eta

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_red")
_NARROW = 60  # A terminal with fewer columns has no space for all columns of the table.


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Column:
    """A column of the table of workers."""

    title: str
    value: Callable[[Row], object]  # None: not known, and left empty.
    number: bool = False  # Aligned to the right.
    shrinks: bool = False  # Cut where the terminal is too narrow.
    wide_only: bool = False  # Left out on a narrow terminal.


_COLUMNS = (
    _Column(title="worker", value=lambda row: row.worker, number=True),
    _Column(title="phase", value=lambda row: row.phase),
    _Column(title="node", value=lambda row: row.node, shrinks=True, wide_only=True),
    _Column(title="step", value=lambda row: row.step, number=True),
    _Column(title="restarts", value=lambda row: row.restarts, number=True, wide_only=True),
    _Column(title="reason", value=lambda row: row.reason, shrinks=True),
)


def worker_parts(snapshot: Snapshot, space: int, width: int) -> list[rich.console.RenderableType]:
    """A line for each worker; of more than `space` workers their counts, and the odd ones out."""
    parts: list[rich.console.RenderableType] = []
    if len(snapshot.rows) > space:
        parts.append(rich.text.Text(f"{len(snapshot.rows)} workers: {snapshot.summary()}", overflow="ellipsis"))
    if rows := snapshot.shown(space):
        parts.append(_table(rows, width))
        if (left := len(snapshot.odd()) - space) > 0 and len(snapshot.rows) > space:
            parts.append(rich.text.Text(f"and {left} more"))
    return parts


def progress_texts(snapshot: Snapshot, width: int) -> list[rich.console.RenderableType]:
    """How far training is, as its chief says."""
    progress = snapshot.progress
    if progress is None:
        return []
    share = progress.step / progress.steps
    drawn = bar(share, max(5, min(40, width - 40)))
    head = f"epoch {progress.epoch}/{progress.epochs} {drawn} {share:.0%} {eta(progress, snapshot.step_seconds)}"
    figures = (
        f"step {progress.step}/{progress.steps}  {metrics_text(progress.first_metrics())}  "
        f"{progress.examples_per_second:,.0f} examples/s{data_wait_text(progress)}"
    )
    if snapshot.attempt > 1:
        figures += f"  attempt {snapshot.attempt}"
    return [rich.text.Text(one_line(line.rstrip()), no_wrap=True, overflow="ellipsis") for line in (head, figures)]


def log_text(worker: int, text: str, *, prefixed: bool) -> rich.text.Text:
    """A line of a worker's log; `prefixed` puts the worker before it, in its colour."""
    text = printable(text, colours=True)
    prefix = (f"worker {worker} | ", _COLOURS[worker % len(_COLOURS)])
    return rich.text.Text.assemble(prefix, text) if prefixed else rich.text.Text(text)


def _table(rows: Sequence[Row], width: int) -> rich.table.Table:
    columns = [column for column in _COLUMNS if width >= _NARROW or not column.wide_only]
    table = rich.table.Table(box=None, pad_edge=False)
    texts_by_column: list[list[str]] = []
    for column in columns:
        values = [column.value(row) for row in rows]
        texts = ["" if value is None else one_line(str(value)) for value in values]
        texts_by_column.append(texts)
        table.add_column(
            column.title,
            no_wrap=True,
            justify="right" if column.number else "left",
            min_width=None if column.shrinks else max(map(len, (column.title, *texts))),
        )
    for texts_of_row in zip(*texts_by_column, strict=True):
        table.add_row(*map(rich.text.Text, texts_of_row))  # What stands in brackets is text, too.
    return table
