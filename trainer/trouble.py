"""Says that an output is away, once a minute and not more, and that it is back."""

import threading
from collections.abc import Callable

EVERY_SECONDS = 60.0


class Trouble:
    """What a person hears of an output that fails for a while. Any thread may report."""

    def __init__(self, what: str, *, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        """Makes the reporter of the output `what`, whose times are those of `clock`, in seconds."""
        self._what, self._say, self._clock = what, say, clock
        self._since: float | None = None
        self._said = 0.0
        self._lock = threading.Lock()

    def report(self, error: Exception, waiting: int = 0) -> None:
        """The output failed; `waiting` bytes of events and logs have not reached it."""
        with self._lock:
            now = self._clock()
            if self._since is None:
                self._since = now
            elif now - self._said < EVERY_SECONDS:
                return
            self._said = now
            since = f" for {now - self._since:.0f} s" if now > self._since else ""
            self._say(
                f"warning: the output cannot be written{since}: {error}; {waiting} bytes of events and logs wait on "
                "disk, and the run goes on"
            )

    def over(self) -> None:
        """The output took everything."""
        with self._lock:
            if self._since is not None:
                self._say(f"the output {self._what} is written again, after {self._clock() - self._since:.0f} s")
            self._since = None
