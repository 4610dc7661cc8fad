"""A worker's log of one attempt, as files small enough to be stored anew each time that one grows.

`workers/<index>/attempt-<n>.log`, and when that is full `attempt-<n>.log.0001` and so on: one after the other they are
the log. With an output each becomes an object of the same name, and those that are stored and followed by another are
deleted; without one they stay.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from trainer.output.segments import SEGMENT_BYTES

_MOST_WAITING = 4 * 2**20  # Bytes in memory while the disk is slow.
_NAME = re.compile(r"workers/(\d+)/attempt-(\d+)\.log(?:\.(\d+))?")


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
        self._left_out = 0  # Bytes, since the last that were written.
        self._waiting: list[bytes] = []  # Lines.
        self._waiting_bytes = 0
        self._too_many = 0  # Bytes that came when too many waited.
        self._writing = self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def write(self, line: bytes) -> None:
        """Adds a line, unless the disk or what the logs may take of it is full, or the disk is too slow."""
        with self._changed:
            if self._too_many or self._waiting_bytes + len(line) > _MOST_WAITING:
                self._too_many += len(line)
            else:
                self._waiting.append(line)
                self._waiting_bytes += len(line)
            self._changed.notify_all()

    def flush(self, seconds: float) -> None:
        """Waits until every line is on the disk, or for `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._writing), seconds)

    def close(self) -> None:
        """No line will come any more; does not wait for those that did."""
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
        if self._left_out or not self._size or self._size + len(line) > SEGMENT_BYTES:
            folder = (self._run_dir / self._key).parent
            folder.mkdir(parents=True, exist_ok=True)
            if _taken(folder) + SEGMENT_BYTES > self._limit:
                self._leave_out(len(line), f"--mirror_max_disk={self._limit / 2**20:g} is used up")
                return
        if self._left_out:
            line = b"[%d bytes of this log were left out here]\n" % self._left_out + line
        if self._size and self._size + len(line) > SEGMENT_BYTES:
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


def log_key(worker: int, attempt: int) -> str:
    """The key of the first file of an attempt's log."""
    return f"workers/{worker}/attempt-{attempt}.log"


def log_files(run_dir: Path, worker: int) -> list[str]:
    """The keys of a worker's logs on disk, in the order in which they were written."""
    return in_order(str(path.relative_to(run_dir)) for path in run_dir.glob(f"workers/{worker}/*"))


def in_order(keys: Iterable[str]) -> list[str]:
    """The keys of logs among `keys`, by worker, attempt and number."""
    found = [(match, key) for key in keys if (match := _NAME.fullmatch(key))]
    return [key for _, key in sorted((tuple(int(part or 0) for part in match.groups()), key) for match, key in found)]


def highest_attempt(keys: Iterable[str]) -> int:
    """The highest number of an attempt that has a log among `keys`; 0: none has."""
    return max((int(match[2]) for key in keys if (match := _NAME.fullmatch(key))), default=0)


def highest_on_disk(run_dir: Path) -> int:
    """The highest number of an attempt that has a log in the run directory; 0: none has."""
    return highest_attempt(str(path.relative_to(run_dir)) for path in run_dir.glob("workers/*/*"))
