"""Connections of which a request is waited for: they are few, and none is waited for long.

Anybody may connect, and a connection costs this process a descriptor. So one whose request does not come is closed
after a while, however it trickles, and of too many the one that has been waited for longest: an honest client's request
is there within milliseconds. A connection whose request has come is not counted here: its answer may take hours. One
that is answered is: its client may never read.
"""

import asyncio
import itertools
import time
from collections.abc import Callable

SILENT_SECONDS = 30.0


class Connections:
    """The connections that have not sent their request."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins without any; of more than `most` the oldest is closed."""
        self._most, self._clock = most, clock
        self._since: dict[asyncio.Transport, float] = {}  # Oldest first.

    def wait_for(self, connection: asyncio.Transport) -> None:
        """From now on a request is waited for."""
        self.forget(connection)
        self._since[connection] = self._clock()
        self._close(len(self._since) - self._most)

    def forget(self, connection: asyncio.Transport) -> None:
        """Its request has come, or it is closed."""
        self._since.pop(connection, None)

    def close_silent(self) -> None:
        """Ends those that have been waited for too long."""
        longest = self._clock() - SILENT_SECONDS
        self._close(sum(1 for _ in itertools.takewhile(lambda since: since <= longest, self._since.values())))

    def close_older_half(self) -> None:
        """Ends those that have been waited for longest: this process has no room for more."""
        self._close((len(self._since) + 1) // 2)

    def _close(self, count: int) -> None:
        for connection in list(itertools.islice(self._since, max(count, 0))):
            self.forget(connection)
            connection.abort()
