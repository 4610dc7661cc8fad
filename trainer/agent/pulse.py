"""Whether the agent's main loop still comes round: what is hung for good should be ended, and nothing else."""

import pathlib
import time
from collections.abc import Callable

_LONGEST_LOOK = (
    2.0  # Seconds that two looks can lie apart; the machine slept, or this process had no turn, in a longer pause.
)
HUNG_SECONDS = 300.0


class Pulse:
    """The main loop beats twice a second; another thread looks as often."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins with a beat."""
        self._clock = clock
        self._beats = self._seen = 0
        self._looked_at = clock()
        self._silent = 0.0

    def beat(self) -> None:
        """The main loop has come round."""
        self._beats += 1

    def look(self) -> None:
        """Counts the time without a beat in which this process ran and was not kept waiting by a disk."""
        now, beats = self._clock(), self._beats
        if beats != self._seen:
            self._seen, self._silent = beats, 0.0
        elif not waits_for_a_disk():
            self._silent += min(now - self._looked_at, _LONGEST_LOOK)
        self._looked_at = now

    @property
    def silent_seconds(self) -> float:
        """How long the main loop has not come round, as counted by `look`."""
        return self._silent


def waits_for_a_disk() -> bool:
    """Whether a thread of this process sleeps without being able to be woken, as on a file server that is away."""
    for stat in pathlib.Path("/proc/self/task").glob("*/stat"):
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "D":
                return True
        except OSError:  # The thread has ended.
            continue
    return False
