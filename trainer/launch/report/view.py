"""What a person sees of a run on a cluster: one live screen on a terminal, plain lines elsewhere, JSON for programs."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import rich.console
import rich.live
import rich.table
import rich.text

from trainer.core.log_lines import Progress, StateLine
from trainer.launch.report.snapshot import Picture, Row, bar, described, eta
from trainer.launch.report.verdict import Verdict

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_red")
_NARROW = 60  # Columns of a terminal.
_BESIDE = 9  # Lines of the live screen beside the workers'.
_UNBOUND = 1000  # Columns where there is no terminal.


class View(Protocol):
    """Takes what is known of a run."""

    rows: int  # Workers that have a line of their own; what they do is wanted too.

    def say(self, text: str) -> None:
        """A line for a person."""

    def log(self, worker: int, text: str) -> None:
        """A line of a worker's log."""

    def show(self, picture: Picture) -> None:
        """How the run looks now."""

    def end(self, verdict: Verdict) -> None:
        """How it ended."""


class PlainView:
    """Lines, each when it is news."""

    rows = 0

    def __init__(self, *, prefixed: bool) -> None:
        """`prefixed` puts the worker before each line of a log, on a terminal in its colour."""
        self._prefixed = prefixed
        self._terminal = rich.console.Console() if prefixed and sys.stdout.isatty() else None
        self._said: tuple[str, ...] = ()

    def say(self, text: str) -> None:
        """Prints it."""
        print(text, flush=True)

    def log(self, worker: int, text: str) -> None:
        """Prints it."""
        if self._terminal:
            self._terminal.print(_line(worker, text, prefixed=True), soft_wrap=True, highlight=False)
        else:
            print(f"worker {worker} | {text}" if self._prefixed else text, flush=True)

    def show(self, picture: Picture) -> None:
        """Prints what changed in the counts and the reasons."""
        lines = (f"workers: {picture.summary()}", *(f"  {line}" for line in described(picture.pending)))
        for line in lines:
            if line not in self._said:
                self.say(line)
        self._said = lines

    def end(self, verdict: Verdict) -> None:
        """Prints it."""
        self.say(verdict.text)


class JsonView:
    """One object a line."""

    rows = 0

    def __init__(self) -> None:
        """Has written nothing yet."""
        self._shown: object = None

    def say(self, text: str) -> None:
        """A notice."""
        self._write(event="notice", text=text)

    def log(self, worker: int, text: str) -> None:
        """A log line, or the progress in it."""
        progress = Progress.parse(text)
        if progress is not None:
            self._write(event="progress", **vars(progress))
        else:
            self._write(event="log", worker=worker, text=text)

    def show(self, picture: Picture) -> None:
        """The counts and the reasons, when they have changed."""
        pending = [{"reason": r.word, "text": r.text, "workers": list(r.workers)} for r in picture.pending]
        shown = {"workers": picture.counts(), "pending": pending, "attempt": picture.attempt}
        if shown != self._shown:
            self._write(event="state", **shown)
            self._shown = shown

    def end(self, verdict: Verdict) -> None:
        """The verdict."""
        lines = list(verdict.lines)
        self._write(event="verdict", exit_code=int(verdict.code), text=verdict.headline, lines=lines, **verdict.facts)

    def _write(self, **value: object) -> None:
        print(json.dumps(_json({"time": round(time.time(), 3), **value}), allow_nan=False), flush=True)


class LiveView:
    """A screen that is drawn anew, below whatever is said."""

    rows = 32

    def __init__(self, console: rich.console.Console, *, prefixed: bool) -> None:
        """Draws nothing yet."""
        self._console, self._prefixed = console, prefixed
        self._picture: Picture | None = None
        self.live = rich.live.Live(get_renderable=self.screen, console=console, refresh_per_second=4)

    def say(self, text: str) -> None:
        """Prints it above the screen."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def log(self, worker: int, text: str) -> None:
        """Prints it above the screen; progress and state lines are on the screen."""
        if Progress.parse(text) or StateLine.parse(text):
            return
        self._console.print(_line(worker, text, prefixed=self._prefixed), soft_wrap=True, highlight=False)

    def show(self, picture: Picture) -> None:
        """Takes it for the next drawing."""
        self._picture = picture

    def end(self, verdict: Verdict) -> None:
        """Prints it in place of the screen."""
        self.live.stop()
        headline, *lines = verdict.text.splitlines()
        colour = "green" if verdict.code == 0 else "red"
        self._console.print(rich.text.Text(headline, style=f"bold {colour}"), soft_wrap=True, highlight=False)
        for line in lines:
            self.say(line)

    def screen(self) -> rich.console.RenderableType:
        """All of it."""
        picture = self._picture
        if picture is None:
            return rich.text.Text("…")
        # Of more workers than that it is not read what each does.
        waiting = described(picture.pending)
        space = min(self.rows, max(1, self._console.height - _BESIDE - len(waiting)))
        width = self._console.width
        parts = _workers(picture, space, width)
        for line in waiting:
            parts.append(rich.text.Text(line, style="yellow", no_wrap=True, overflow="ellipsis"))
        return rich.console.Group(*parts, *_progress(picture, width))


class TableView(PlainView):
    """The screen as it is at one moment, in lines that stay."""

    rows = LiveView.rows

    def __init__(self) -> None:
        """Prints nothing yet."""
        super().__init__(prefixed=False)
        self._console = rich.console.Console(width=None if sys.stdout.isatty() else _UNBOUND)

    def show(self, picture: Picture) -> None:
        """Prints it."""
        for part in _workers(picture, self.rows, self._console.width):
            self._console.print(part)
        for line in described(picture.pending):
            self.say(line)
        for part in _progress(picture, self._console.width):
            self._console.print(part)


def _line(worker: int, text: str, *, prefixed: bool) -> rich.text.Text:
    """A line of a log on a terminal."""
    prefix = (f"worker {worker} | ", _COLOURS[worker % len(_COLOURS)])
    return rich.text.Text.assemble(prefix, text) if prefixed else rich.text.Text(text)


def _json(value: Any) -> Any:
    """The value as JSON can say it, which has no NaN: null instead."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {key: _json(item) for key, item in value.items()}
        case list() | tuple():
            return [_json(item) for item in value]
    return value


def _workers(picture: Picture, space: int, width: int) -> list[rich.console.RenderableType]:
    """A line a worker; of more than `space` workers their counts, and the odd ones out."""
    parts: list[rich.console.RenderableType] = []
    if len(picture.rows) > space:
        parts.append(rich.text.Text(f"{len(picture.rows)} workers: {picture.summary()}", overflow="ellipsis"))
    if rows := picture.shown(space):
        parts.append(_table(rows, width))
        if (left := len(picture.odd()) - space) > 0 and len(picture.rows) > space:
            parts.append(rich.text.Text(f"and {left} more"))
    return parts


def _progress(picture: Picture, width: int) -> list[rich.console.RenderableType]:
    """How far training is, as its chief says."""
    progress = picture.progress
    if progress is None:
        return []
    share = progress.step / progress.steps
    drawn = bar(share, max(5, min(40, width - 40)))
    head = f"epoch {progress.epoch}/{progress.epochs} {drawn} {share:.0%} {eta(progress, picture.step_seconds)}"
    figures = (
        f"step {progress.step}/{progress.steps}  loss {progress.loss:.4f}  accuracy {progress.accuracy:.4f}  "
        f"{progress.images_per_second:,.0f} images/s"
    )
    if picture.attempt > 1:
        figures += f"  attempt {picture.attempt}"
    return [rich.text.Text(line.rstrip(), no_wrap=True, overflow="ellipsis") for line in (head, figures)]


def _table(rows: Sequence[Row], width: int) -> rich.table.Table:
    """A line a worker; on a narrow terminal without what matters least."""
    titles: tuple[str, ...] = ("worker", "phase", "node", "step", "restarts", "reason")
    if width < _NARROW:
        titles = ("worker", "phase", "step", "reason")
    table = rich.table.Table(box=None, pad_edge=False)
    cells = {
        title: ["" if getattr(row, title) is None else str(getattr(row, title)) for row in rows] for title in titles
    }
    for title, column in cells.items():
        shrinks = title in ("node", "reason")
        table.add_column(
            title,
            no_wrap=True,
            justify="right" if title in ("worker", "step", "restarts") else "left",
            min_width=None if shrinks else max(map(len, (title, *column))),
        )
    for row in zip(*cells.values(), strict=True):
        table.add_row(*row)
    return table


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
