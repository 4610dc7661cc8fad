"""A thread that copies one kind of thing again and again, until it is stopped or superseded."""

import threading
import time
from collections.abc import Callable

from trainer.core import threads
from trainer.output.outage import Outage, retry_seconds
from trainer.output.stores.errors import StorageError


class CopyThread:
    """Copies every interval, and at once when it is woken; when the store or the disk fails, it tries again later."""

    def __init__(
        self,
        name: str,
        copy: Callable[[], None],
        *,
        interval: float,
        outage: Outage,
        backlog: Callable[[], int],
        on_error: Callable[[Exception], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The thread begins with `start`.

        Args:
          name: names what it copies.
          copy: copies all that there is to copy.
          interval: seconds between the starts of two copies.
          outage: is told when a copy failed, and when one succeeds.
          backlog: the bytes that wait on disk, for `outage`.
          on_error: called in this thread when it ends because of an error that no other try would mend.
          clock: the time in seconds.
        """
        self._name, self._copy, self._interval, self._clock = name, copy, interval, clock
        self._outage, self._backlog, self._on_error = outage, backlog, on_error
        self._stopping, self._woken = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mirror-{name}", daemon=True)

    def start(self) -> None:
        """Begins to copy."""
        threads.start_patiently(self._thread)

    def wake(self) -> None:
        """Lets it copy at once rather than at the end of the interval."""
        self._woken.set()

    def stop(self) -> None:
        """Lets it end after the copy that it is at."""
        self._stopping.set()
        self._woken.set()

    def join(self, timeout: float | None) -> bool:
        """Waits until it has ended, for so many seconds at most; returns whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            failures = 0
            while not self._stopping.is_set():
                start = self._clock()
                try:
                    self._copy()
                except (StorageError, OSError) as error:
                    self._outage.report(error, self._backlog(), writer=self._name)
                    self._stopping.wait(retry_seconds(failures, interval=self._interval))
                    failures += 1
                else:
                    self._outage.over(self._name)
                    failures = 0
                    self._woken.wait(max(self._interval - (self._clock() - start), 0.0))
                    self._woken.clear()
        except BaseException as error:  # A client's panic, too: nobody else would hear of it.
            self._on_error(threads.as_exception(error))
