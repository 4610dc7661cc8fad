"""What an agent prints: the training process's lines as they are, and its own."""

import contextlib
import sys
import threading

from trainer.output import LogFile


class AgentLog:
    """Whole lines, from any thread, to standard output and error and to the file of the attempt."""

    def __init__(self, worker: int) -> None:
        """Makes the log of one worker's agent."""
        self._worker = worker
        self._lock = threading.Lock()
        self._file: LogFile | None = None

    def keep(self, file: LogFile | None) -> None:
        """From now on lines go into `file` too, and no longer into the one before."""
        with self._lock:
            before, self._file = self._file, file
        if before:
            before.close()

    def pass_on(self, line: bytes, error: bool) -> None:
        """A line of the training process."""
        if not line.endswith(b"\n"):
            line += b"\n"
        with self._lock:
            with contextlib.suppress(BrokenPipeError):  # Nobody reads any more; training goes on.
                stream = sys.stderr.buffer if error else sys.stdout.buffer
                stream.write(line)
                stream.flush()
            if self._file:
                try:
                    self._file.write(line)
                    self._file.flush()
                except OSError as error:  # A full disk costs the copy of the log, not the run.
                    self._file = None
                    print(f"agent {self._worker}: warning: no copy of the log: {error}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A sentence for a person."""
        self.pass_on(f"agent {self._worker}: {text}\n".encode(), True)

    def show(self, line: str) -> None:
        """A line for a watcher."""
        self.pass_on(f"{line}\n".encode(), False)
