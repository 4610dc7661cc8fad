"""Says that an output is away, once a minute and not more, and that it is back."""

import threading
from collections.abc import Callable

EVERY_SECONDS = 60.0


class Trouble:
    """What a person hears of an output that fails for a while. Any thread may report."""

    def __init__(self, what: str, *, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        """Makes the reporter of the output `what`, whose times are those of `clock`, in seconds."""
        self._what, self._say, self._clock = what, say, clock
        self._failing: set[str] = set()  # Who has met it since they last succeeded.
        self._since = 0.0
        self._said: float | None = None  # When a warning was given last.
        self._told = False  # Whether one was given since it began.
        self._lock = threading.Lock()

    def report(self, error: Exception, waiting: int = 0, *, who: str = "") -> None:
        """The output failed for `who` writes to it; `waiting` bytes of events and logs have not reached it."""
        with self._lock:
            now = self._clock()
            if not self._failing:
                self._since = now
            self._failing.add(who)
            if self._said is not None and now - self._said < EVERY_SECONDS:  # It may come and go every second.
                return
            self._said, self._told = now, True
            since = f" for {now - self._since:.0f} s" if now > self._since else ""
            self._say(
                f"warning: the output cannot be written{since}: {error}; {waiting} bytes of events and logs wait on "
                "disk, and the run goes on"
            )

    def over(self, who: str = "") -> None:
        """The output took all that `who` had for it; without a name, what anybody had."""
        with self._lock:
            self._failing = self._failing - {who} if who else set()
            if self._told and not self._failing:
                self._say(f"the output {self._what} is written again, after {self._clock() - self._since:.0f} s")
                self._told = False
