"""Writes the documentation's pictures of the launcher (docs/launcher*.svg), when what it shows has changed.

    python -m tools.launcher_pictures RUNNING.svg ENDED.svg [arguments of the launcher]
    python -m tools.launcher_pictures --recorded tests/recorded/NAME.jsonl ENDED.svg

In the first form the launcher runs as it always does, on a cluster, with its own view. RUNNING.svg is its screen when
half of the steps are done ("-": not wanted); ENDED.svg is all that it has left on the terminal at its end. The second
needs no cluster: it shows what `attach` makes of what a cluster once told (`tools/recorded_runs.py`).
"""

import contextlib
import io
import json
import sys
import unittest.mock
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import rich.console

from tests.support.replay import Replay
from trainer.launch import cli
from trainer.launch.cluster.watches import Kube
from trainer.launch.report.snapshot import Snapshot
from trainer.launch.report.verdict import Verdict
from trainer.launch.report.view import LiveView
from trainer.launch.report.watch import Watch

WIDTH = 110
RUNNING_LINES = 14  # So many lines of the log stand above the screen.


class RecordingConsole(rich.console.Console):
    """A terminal that keeps what is printed on it."""

    def __init__(self) -> None:
        super().__init__(file=io.StringIO(), force_terminal=True, width=WIDTH, height=40)
        self.printed: list[Any] = []

    def print(self, *objects: Any, **_: Any) -> None:  # noqa: D102
        self.printed += objects


class RecordingView(LiveView):
    """The live view, which writes its screen as a picture once."""

    def __init__(self, running: str, command: str) -> None:
        self.console = RecordingConsole()
        super().__init__(self.console, prefixed=False)
        self._running = running
        self.console.print(f"$ {command}")

    def show(self, snapshot: Snapshot) -> None:  # noqa: D102
        super().show(snapshot)
        progress = snapshot.progress
        if self._running != "-" and progress and progress.step >= progress.steps / 2:
            draw(self._running, [*self.console.printed[-RUNNING_LINES:], self.screen()])
            self._running = "-"

    def end(self, verdict: Verdict) -> None:  # noqa: D102
        self.console.printed.append(self.screen())  # A terminal keeps it where it was drawn last.
        super().end(verdict)


def draw(path: str, lines: list[Any]) -> None:
    """Writes lines as a terminal shows them."""
    console = rich.console.Console(file=io.StringIO(), record=True, force_terminal=True, width=WIDTH)
    for line in lines:
        console.print(line, markup=False, highlight=False)
    Path(path).write_text(console.export_svg(title=""))


def main(running: str, ended: str, *arguments: str) -> int:
    view = RecordingView(running, " ".join(("python -m trainer.launch", *arguments)))

    @contextlib.contextmanager
    def open_view(**_: Any) -> Iterator[LiveView]:
        yield view

    with unittest.mock.patch("trainer.launch.commands.open_view", open_view):
        code = cli.main(arguments)
    draw(ended, view.console.printed)
    return code


def draw_recorded(record: str, ended: str) -> None:
    """Draws what the launcher shows of a recorded run, as if somebody had watched it."""
    replay = Replay([json.loads(line) for line in Path(record).read_text().splitlines()])
    view = RecordingView("-", "python -m trainer.launch attach --logs=none")
    view.end(Watch(cast(Kube, replay), replay.job, view, logs="none").run())
    draw(ended, view.console.printed)


if __name__ == "__main__":
    if sys.argv[1] == "--recorded":
        draw_recorded(*sys.argv[2:])
    else:
        sys.exit(main(*sys.argv[1:]))
