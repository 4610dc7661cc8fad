"""What an agent prints: the training process's lines as they are, and its own."""

import collections
import contextlib
import sys
import threading
from pathlib import Path

from trainer.agent.records.worker_log import WorkerLog
from trainer.core.run_dir import log_key
from trainer.core.safe_text import one_line

_TOLD = 30  # Lines and sentences, the last ones.
_FLUSH_SECONDS = 1.0  # At the end, for a disk that is slow.


class AgentLog:
    """Writes whole lines, from any thread, to standard output or error and to the log of the attempt."""

    def __init__(self, worker: int) -> None:
        """Begins without an attempt: lines are printed only."""
        self._worker = worker
        self._lock = threading.Lock()
        self._file: WorkerLog | None = None
        self._told: collections.deque[str] = collections.deque(maxlen=_TOLD)  # Reasons that stand above already.

    def begin_attempt(self, run_dir: Path, attempt: int, *, limit: int) -> None:
        """From now on lines go into this attempt's log too, and no longer into the one before.

        Args:
          run_dir: the run directory.
          attempt: its number.
          limit: the bytes that this worker's logs may take there.
        """
        self.flush()  # The next log on disk says that this one is complete.
        with self._lock:
            if self._file:
                self._file.close()
            self._told.clear()
            self._file = WorkerLog(run_dir, log_key(self._worker, attempt), limit=limit, warn=self.warn)

    def flush(self) -> None:
        """Waits until the log of the attempt is on the disk, unless that is too slow."""
        if self._file:
            self._file.flush(_FLUSH_SECONDS)

    def pass_on(self, line: bytes, error: bool) -> None:
        """Takes a line of the training process."""
        if not line.endswith(b"\n"):
            line += b"\n"
        if error:
            self._told.append(one_line(line.decode(errors="replace").rstrip()))
        self._pass_on(line, error)

    def _pass_on(self, line: bytes, error: bool) -> None:
        with self._lock:
            self._print(line, error)
            if self._file:
                self._file.write(line)

    def say(self, text: str) -> None:
        """Takes a sentence for a person. A reason in it, behind a colon, that this attempt's log has is left out."""
        shown, before, told_before = text, "", tuple(filter(None, self._told))
        while shown != before:  # Behind one reason there may be another.
            before = shown
            for told in told_before:
                shown = shown.removesuffix(f": {told}").replace(f": {told}; ", "; ")
        self._told += (text.partition(": ")[2], shown)
        self._pass_on(f"agent {self._worker}: {shown}\n".encode(), True)

    def warn(self, text: str) -> None:
        """Takes a sentence about the log of the attempt, which for that reason does not go there."""
        with self._lock:
            self._print(f"agent {self._worker}: warning: {text}\n".encode(), True)

    def show(self, line: str) -> None:
        """Takes a line for programs that watch."""
        self._pass_on(f"{line}\n".encode(), False)

    def _print(self, line: bytes, error: bool) -> None:
        stream = sys.stderr if error else sys.stdout
        if stream is None:  # It was closed before this process began.
            return
        with contextlib.suppress(OSError, ValueError):  # Nobody reads it, or its disk is full, but training goes on.
            stream.buffer.write(line)
            stream.buffer.flush()
