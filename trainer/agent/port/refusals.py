"""Requests that the agent's port has refused: counted for the metrics, and told a person, but not one by one."""

import collections
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

EVERY_SECONDS = 60.0  # Between two lines: nobody may fill the pod's log from outside.


class Refusals:
    """Counts refused requests by status; a collector of Prometheus metrics. Any thread may call."""

    def __init__(self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes what tells a person a sentence."""
        self._say, self._clock = say, clock
        self._lock = threading.Lock()
        self._count: collections.Counter[int] = collections.Counter()
        self._untold = 0  # Requests without the run's token since the last line.
        self._told_at: float | None = None

    def add(self, status: int, address: str) -> None:
        """A request from an address was refused with that status."""
        with self._lock:
            self._count[status] += 1
            if status != 401:
                return
            self._untold += 1
            now = self._clock()
            if self._told_at is not None and now - self._told_at < EVERY_SECONDS:
                return
            untold, self._untold, self._told_at = self._untold, 0, now
        self._say(
            f"warning: requests without this run's token were refused: {untold}, the last from {address}; this is told "
            f"once in {EVERY_SECONDS:g} s"
        )

    def collect(self) -> Iterator["Metric"]:
        """The metrics, as prometheus_client asks a collector for them."""
        from prometheus_client.core import CounterMetricFamily  # Imported only where metrics are asked for.

        with self._lock:
            counts = {401: 0, **self._count}
        counter = CounterMetricFamily("trainer_refused_requests", "Requests refused, by status", labels=["status"])
        for status, count in sorted(counts.items()):
            counter.add_metric([str(status)], count)
        yield counter
