"""An event file of TensorBoard's, in which every record is whole, whatever the disk does.

TensorFlow's own writer goes on behind half a record when the disk was full for a while, and no reader comes past that.
Here what could not be written is cut off again and waits in memory.
"""

import collections
import contextlib
import os
import re
import socket
import time
from pathlib import Path

from trainer.core.tfrecord import record

_PREFIX = "events.out.tfevents."
_MOST_WAITING = 32 * 2**20  # Bytes in memory while the disk takes nothing.


class EventFile:
    """Appends serialized events to a file that is made when the first one is written."""

    def __init__(self, folder: Path, *, first: bytes) -> None:
        """Nothing is written yet.

        Args:
          folder: where the file is to be.
          first: the serialized event that every event file begins with.
        """
        self._folder, self._first = folder, first
        self._descriptor: int | None = None
        self._end = 0  # The end of the last whole record.
        self._made = 0  # Files so far: another one is begun only when half a record could not be cut off.
        self._waiting: collections.deque[bytes] = collections.deque()
        self._bytes = 0  # In self._waiting.
        self.lost = 0  # Events for which there was no memory either.

    def add(self, event: bytes) -> None:
        """Takes an event; `flush` writes it. The oldest is given up when too much waits."""
        self._waiting.append(record(event))
        self._bytes += len(self._waiting[-1])
        while self._bytes > _MOST_WAITING and len(self._waiting) > 1:
            self._bytes -= len(self._waiting.popleft())
            self.lost += 1

    def flush(self) -> None:
        """Brings all events to the file.

        Raises:
          OSError: the disk did not take them; they wait for the next call.
        """
        while self._waiting:
            descriptor = self._open() if self._descriptor is None else self._descriptor
            if not self._end:
                self._append(descriptor, record(self._first))
            self._append(descriptor, self._waiting[0])
            self._bytes -= len(self._waiting.popleft())

    def _open(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        # As TensorFlow calls it: TensorBoard reads files in the order of their names.
        number = max(int(time.time()), self._newest() + 1)
        name = f"{_PREFIX}{number:010d}.{socket.gethostname()}.{os.getpid()}.{self._made}.v2"
        self._descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        self._made, self._end = self._made + 1, 0
        return self._descriptor

    def _newest(self) -> int:
        """The highest number in a name so far: the clock of the machine that wrote it may be ahead of this one's."""
        numbers = (path.name.removeprefix(_PREFIX).partition(".")[0] for path in self._folder.glob(f"{_PREFIX}*"))
        return max((int(number) for number in numbers if re.fullmatch("[0-9]{10}", number)), default=0)

    def _append(self, descriptor: int, data: bytes) -> None:
        """Writes a record, all of it or nothing."""
        try:
            done = 0
            while done < len(data):
                done += os.write(descriptor, data[done:])
        except OSError:
            self._cut(descriptor)
            raise
        self._end += len(data)

    def _cut(self, descriptor: int) -> None:
        """Removes what was written of the record that did not fit."""
        try:
            os.ftruncate(descriptor, self._end)
        except OSError:
            self._descriptor = None
            with contextlib.suppress(OSError):
                os.close(descriptor)
