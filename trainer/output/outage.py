"""An output that is away: what a person is told of it, and how long to wait before it is asked again."""

import random
import threading
from collections.abc import Callable
from typing import Protocol

EVERY_SECONDS = 60.0  # Between two warnings.
LONGEST_PAUSE = 30.0  # Seconds between two tries.
REFUSED_SECONDS = 60.0  # After which a refusal counts: a cloud's identity can lag behind the pod that it is given to.
_RANDOM = random.Random()  # Its own: Python's belongs to who seeds it.


class Outage:
    """Says that the output is away, at most once a minute, and that it is back. Any thread may report."""

    def __init__(self, url: str, *, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        """Makes the reporter of the output at `url`; `clock` gives the time in seconds."""
        self._url, self._say, self._clock = url, say, clock
        self._failing: set[str] = set()  # The writers that failed since they last succeeded.
        self._since = 0.0  # When the first of them failed.
        self._last_warning: float | None = None
        self._warned = False  # Whether there was a warning since then.
        self._lock = threading.Lock()

    def report(self, error: Exception, waiting: int = 0, *, writer: str = "") -> None:
        """A writer failed to write to the output; `waiting` bytes of events and logs have not reached it."""
        with self._lock:
            now = self._clock()
            if not self._failing:
                self._since = now
            self._failing.add(writer)
            # An output may come and go every second: the minute counts from the last warning, of whatever outage.
            if self._last_warning is not None and now - self._last_warning < EVERY_SECONDS:
                return
            self._last_warning, self._warned = now, True
            since = f" for {now - self._since:.0f} s" if now > self._since else ""
            self._say(
                f"warning: the output cannot be written{since}: {error}; {waiting} bytes of events and logs wait on "
                "disk, and the run goes on"
            )

    def over(self, writer: str = "") -> None:
        """The output took all that a writer had for it; without a name, all that anyone had."""
        with self._lock:
            self._failing = self._failing - {writer} if writer else set()
            if self._warned and not self._failing:
                self._say(f"the output {self._url} is written again, after {self._clock() - self._since:.0f} s")
                self._warned = False


class Growing(Protocol):
    """What is copied while it grows."""

    def backlog(self) -> int:
        """The bytes that are not in the store yet; raises OSError when the disk fails."""


def waiting_bytes(growing: Growing) -> int:
    """The bytes that wait on disk; 0 where the disk does not say: whoever asks is about to report another failure."""
    try:
        return growing.backlog()
    except OSError:
        return 0


def retry_seconds(failures: int, *, interval: float) -> float:
    """How long to wait before another try, after so many failures in a row: longer each time, and never the same."""
    growth = 2.0 ** min(failures, 10)  # Beyond, it is LONGEST_PAUSE anyhow, and some time it would overflow.
    return float(min(interval * growth, LONGEST_PAUSE) * _RANDOM.uniform(0.5, 1.0))
