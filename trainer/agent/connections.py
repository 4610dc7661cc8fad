"""Connections of which a request is waited for: they are few, and none is waited for long.

Anybody may connect, and a connection costs this process a thread and a descriptor. So one whose request does not come
is closed after a while, however it trickles, and of too many the one that has been waited for longest: an honest
client's request is there within milliseconds. A connection whose request has come is not counted here: its answer may
take hours.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

SILENT_SECONDS = 30.0


class Connections:
    """The connections that have not sent their request. Any thread may call."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins without any; of more than `most` the oldest is closed."""
        self._most, self._clock = most, clock
        self._since: dict[socket.socket, float] = {}  # Oldest first.
        self._lock = threading.Lock()

    def wait_for(self, connection: socket.socket) -> None:
        """From now on a request is waited for."""
        with self._lock:
            self._since.pop(connection, None)
            self._since[connection] = self._clock()
            if len(self._since) > self._most:
                self._close(next(iter(self._since)))

    def forget(self, connection: socket.socket) -> None:
        """Its request has come, or it is about to be closed: after this no other thread touches it."""
        with self._lock:
            self._since.pop(connection, None)

    def close_silent(self) -> None:
        """Ends those that have been waited for too long."""
        with self._lock:
            longest = self._clock() - SILENT_SECONDS
            for connection in [connection for connection, since in self._since.items() if since <= longest]:
                self._close(connection)

    def close_oldest(self) -> None:
        """Ends the one that has been waited for longest, if there is any: this process has no room for more."""
        with self._lock:
            if self._since:
                self._close(next(iter(self._since)))

    def _close(self, connection: socket.socket) -> None:
        """Wakes the thread that reads from it, which closes it."""
        del self._since[connection]
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
