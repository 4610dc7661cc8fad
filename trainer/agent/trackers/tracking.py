"""Trackers of experiments: what the chief's agent tells them, from progress lines and the result.

A tracker has a thread of its own and a queue that ends somewhere. One that is away is told of once a minute, one that
refuses once; training notices neither.
"""

import collections
import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from trainer.core import threads
from trainer.core.log_lines import Progress
from trainer.core.safe_text import one_line, redacted

MOST_WAITING = 10_000  # Progress lines.
_BATCH = 50
_PAUSE = 2.0  # Seconds between two looks at the queue.
_LONGEST_PAUSE = 30.0  # Between two tries.
_TELL_SECONDS = 60.0


class RefusedError(Exception):
    """The tracker will not take this run, however often it is asked; the text says why and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What a tracker is told of a run at its begin."""

    name: str  # Of the run directory.
    flags: Mapping[str, str]  # Of the training program, those that differ from their defaults.
    goes_on: bool  # Whether an earlier agent has begun it.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A progress line, dated."""

    seconds: float  # Since 1970.
    progress: Progress

    @property
    def metrics(self) -> dict[str, float]:
        """Every number of the line by its name."""
        line = self.progress
        validation = {f"val_{name}": value for name, value in (line.validation or {}).items()}
        return {**line.metrics, **validation, "examples_per_second": line.examples_per_second, "epoch": line.epoch}


class Tracker(Protocol):
    """One tracker. Called by one thread; whatever is raised but `RefusedError` is tried again."""

    name: str  # With its address, for a person.

    def begin(self, run: Run) -> tuple[int, bool]:
        """Begins or goes on with the run; the last step that it knows, and whether that ended an epoch."""

    def log(self, points: Sequence[Point]) -> None:
        """Takes progress lines, oldest first."""

    def end(self, result: Mapping[str, Any] | None, code: int) -> None:
        """Takes what the run ended with: result.json, if there is one, and the exit code."""


class Tracking:
    """Feeds one tracker."""

    def __init__(
        self,
        tracker: Tracker,
        run: Run,
        *,
        say: Callable[[str], None],
        pause: float = _PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts its thread, if this machine has room for one.

        Args:
          tracker: the tracker.
          run: the run.
          say: takes a sentence for a person.
          pause: seconds between two looks at what waits.
          clock: the time in seconds.
        """
        self._tracker, self._run, self._say, self._pause, self._clock = tracker, run, say, pause, clock
        self._points: collections.deque[Point] = collections.deque(maxlen=MOST_WAITING)
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._ended: tuple[Mapping[str, Any] | None, int] | None = None
        self._known: tuple[int, bool] | None = None  # Once the run has begun there.
        self._told: float | None = None
        self._away = False
        self._thread = threading.Thread(target=self._work, name=f"tracker-{tracker.name}", daemon=True)
        self._works = threads.start(self._thread)
        if not self._works:
            say(f"warning: {tracker.name} is not told of this run: this machine gives no thread for it")

    def progressed(self, progress: Progress) -> None:
        """Takes a progress line, from any thread, at once; the oldest is given up when too many wait."""
        if self._works:
            with self._lock:
                self._points.append(Point(seconds=time.time(), progress=progress))

    def finish(self, result: Mapping[str, Any] | None, code: int) -> None:
        """Says how the run ended; `wait` waits until the tracker knows."""
        self._ended = result, code
        self._wake.set()

    def wait(self, timeout: float) -> None:
        """Returns when the tracker knows all, or after so many seconds."""
        if not self._works:
            return
        self._thread.join(max(timeout, 0.0))
        if self._thread.is_alive():
            waiting = len(self._points)
            self._say(f"warning: {self._tracker.name} does not know how the run ended; {waiting} line(s) were not sent")

    def _work(self) -> None:
        failures = 0
        while True:
            self._wake.wait(min(self._pause * 2 ** min(failures, 10), _LONGEST_PAUSE))
            ended = self._ended
            try:
                self._send()
                if ended and not self._points:
                    self._tracker.end(*ended)
                    return
                failures = 0
                self._back()
            except RefusedError as error:
                self._works = False
                self._points.clear()
                why = one_line(redacted(str(error)), 300)
                self._say(f"warning: {self._tracker.name} is not told of this run: {why}")
                return
            except BaseException as error:  # A client may raise anything, or ask for an exit: it ends no run.
                failures += 1
                self._report(threads.as_exception(error))
                self._wake.clear()

    def _send(self) -> None:
        if self._known is None:
            self._known = self._tracker.begin(self._run)
        while self._points:
            with self._lock:
                batch = list(itertools.islice(self._points, _BATCH))
            # A resume makes steps again, with the same numbers; each is told once.
            known, new = self._known, []
            for point in batch:
                if _place(point.progress) > known:
                    known = _place(point.progress)
                    new.append(point)
            if new:
                self._tracker.log(new)
                self._known = known
            with self._lock:
                for point in batch:
                    if self._points and self._points[0] is point:  # Not if it was given up meanwhile.
                        self._points.popleft()

    def _report(self, error: Exception) -> None:
        self._away = True
        if self._told is not None and self._clock() - self._told < _TELL_SECONDS:
            return
        self._told = self._clock()
        why = one_line(redacted(str(error) or type(error).__name__), 300)
        self._say(f"warning: {self._tracker.name} is away: {why}; {len(self._points)} lines wait, and the run goes on")

    def _back(self) -> None:
        if self._away:
            self._away = False
            self._say(f"{self._tracker.name} takes lines again")


def _place(progress: Progress) -> tuple[int, bool]:
    return progress.step, progress.ends_epoch
