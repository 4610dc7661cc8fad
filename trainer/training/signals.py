"""SIGTERM and Ctrl-C, as a wish that the training loop takes up at a step, not as an interruption.

TensorFlow's strategy installs a SIGTERM handler of its own, and Python's handlers wait while the main thread sits in a
collective. So both signals are blocked in every thread, before TensorFlow is imported, and one thread waits for them.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

_SIGNALS = {signal.SIGTERM, signal.SIGINT}


class StopWish:
    """Whether this process was asked to stop. Create it before TensorFlow is imported, in the main thread."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._handler: Callable[[], None] | None = None
        self._lock = threading.Lock()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        threading.Thread(target=self._wait, name="signals", daemon=True).start()

    @property
    def exit_code(self) -> int:
        """What a process ends with that this signal stopped: 143 for SIGTERM, 130 for Ctrl-C."""
        return 128 + (self.signal or 0)

    def on_wish(self, handler: Callable[[], None]) -> None:
        """From now on a signal calls `handler`, once, from another thread; before, it ends the process at once."""
        with self._lock:
            self._handler = handler

    def _wait(self) -> None:
        while True:
            received = signal.Signals(signal.sigwait(_SIGNALS))
            with self._lock:
                first, self.signal = self.signal is None, self.signal or received
                if self._handler is None or (received == signal.SIGINT and not first):
                    _say(f"stopped by {received.name}; nothing was saved since the last checkpoint")
                    os._exit(128 + received)
                if first:
                    self._handler()
                    _say(f"{received.name}: saving at the next step")


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # Nobody reads it any more; the wish counts all the same.
        print(text, file=sys.stderr, flush=True)
