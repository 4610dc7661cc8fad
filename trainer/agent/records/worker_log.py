"""A worker's log of one attempt, as files small enough to be stored anew each time that one grows.

`workers/<index>/attempt-<n>.log`, and when that is full `attempt-<n>.log.0001` and so on: one after the other they are
the log. With an output each becomes an object of the same name, and those that are stored and followed by another are
deleted; without one they stay.
"""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

from trainer.core import threads

_MOST_WAITING = 4 * 2**20  # Bytes in memory while the disk is slow.
_FILE_BYTES = 256 * 2**10  # A file of the log grows to this size.


class WorkerLog:
    """The log that an attempt is writing, on disk. Training never waits for it and never fails because of it.

    A thread of its own writes: the run directory may lie on a network's file system, which can be slow or hang.
    """

    def __init__(self, run_dir: Path, key: str, *, limit: int, warn: Callable[[str], None]) -> None:
        """Starts the log.

        Args:
          run_dir: the run directory.
          key: the first file's path in it.
          limit: the bytes that it and the logs beside it may take on disk.
          warn: takes a sentence for a person, in the thread that writes.
        """
        self._run_dir, self._key, self._limit, self._warn = run_dir, key, limit, warn
        self._number, self._size = 0, 0
        self._left_out = 0  # Bytes since the last line that was written.
        self._waiting: list[bytes] = []  # Lines.
        self._waiting_bytes = 0
        self._too_many = 0  # Bytes that came when too many waited.
        self._writing = self._closed = False
        self._changed = threading.Condition()
        self._writer = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._started = threads.start(self._writer)

    def write(self, line: bytes) -> None:
        """Adds a line, unless the disk or what the logs may take of it is full, or the disk is too slow."""
        with self._changed:
            if self._too_many or self._waiting_bytes + len(line) > _MOST_WAITING:
                self._too_many += len(line)
            else:
                self._waiting.append(line)
                self._waiting_bytes += len(line)
            self._started = self._started or threads.start(self._writer)  # There may have been no room for it before.
            self._changed.notify_all()

    def flush(self, seconds: float) -> None:
        """Waits until every line is on the disk, or for `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._writing), seconds)

    def close(self) -> None:
        """Ends the log once the lines that wait are written; it does not wait for that."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                lines, too_many, self._writing = self._waiting, self._too_many, True
                self._waiting, self._waiting_bytes, self._too_many = [], 0, 0
            for line in lines:
                try:
                    self._add(line)
                except OSError as error:
                    self._leave_out(len(line), error.strerror or str(error))
            if too_many:
                self._leave_out(too_many, "the disk is too slow")

    def _add(self, line: bytes) -> None:
        if self._left_out or not self._size or self._size + len(line) > _FILE_BYTES:
            folder = (self._run_dir / self._key).parent
            folder.mkdir(parents=True, exist_ok=True)
            if _taken(folder) + _FILE_BYTES > self._limit:
                self._leave_out(len(line), f"--mirror_max_disk={self._limit / 2**20:g} is used up")
                return
        if self._left_out:
            line = b"[%d bytes of this log were left out here]\n" % self._left_out + line
        if self._size and self._size + len(line) > _FILE_BYTES:
            self._number, self._size = self._number + 1, 0
        key = f"{self._key}.{self._number:04d}" if self._number else self._key
        with (self._run_dir / key).open("ab") as file:
            file.write(line)
        self._size += len(line)
        self._left_out = 0

    def _leave_out(self, size: int, why: str) -> None:
        first, self._left_out = not self._left_out, self._left_out + size
        if first:
            self._warn(f"the log of this worker has a gap from here on: {why}")


def _taken(folder: Path) -> int:
    """The bytes of the files in a folder."""
    total = 0
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # The mirror deletes what is stored.
            total += path.stat().st_size
    return total
