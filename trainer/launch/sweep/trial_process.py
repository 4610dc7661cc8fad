"""A trial's launcher as a process, and threads that read what it prints."""

import dataclasses
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO

from trainer.core.process import spawn

_READ_SECONDS = 5.0  # So long, at most, the last lines of a launcher that has ended are waited for.


@dataclasses.dataclass(frozen=True)
class TrialLine:
    """A line that a trial's launcher printed."""

    number: int  # The trial's.
    text: str
    error: bool  # Whether it was printed on standard error.


@dataclasses.dataclass(frozen=True)
class TrialExit:
    """A trial's launcher has ended; all its lines came before."""

    number: int
    code: int  # Its exit code; negative: the signal that ended it.


SweepEvents = queue.SimpleQueue[TrialLine | TrialExit | signal.Signals]
"""What happens to a sweep: its trials' lines and ends, and signals to the launcher."""


def start(number: int, arguments: Sequence[str], cores: Sequence[int], events: SweepEvents) -> subprocess.Popen[bytes]:
    """Starts a launcher for a trial; call it from the main thread only.

    Args:
      number: the trial's.
      arguments: the launcher's.
      cores: those that it and all that it starts may use; none given: those of this process.
      events: take its lines and its end.

    Raises:
      OSError, RuntimeError: this machine gives no more processes, files or threads.
    """
    command = (sys.executable, "-m", "trainer.launch", *arguments)
    process = spawn(command, os.environ, output=subprocess.PIPE, cores=cores)
    readers = [
        threading.Thread(target=_read, args=(number, stream, error, events), daemon=True)
        for stream, error in ((process.stdout, False), (process.stderr, True))
        if stream
    ]
    waiter = threading.Thread(target=_wait, args=(number, process, readers, events), daemon=True)
    for thread in (*readers, waiter):
        thread.start()
    return process


def _read(number: int, stream: IO[bytes], error: bool, events: SweepEvents) -> None:
    with stream:
        for line in stream:
            events.put(TrialLine(number, line.decode(errors="replace").rstrip(), error))


def _wait(
    number: int, process: subprocess.Popen[bytes], readers: Sequence[threading.Thread], events: SweepEvents
) -> None:
    code = process.wait()
    for reader in readers:  # They end by themselves, unless a process that was left behind holds the pipe.
        reader.join(_READ_SECONDS)
    events.put(TrialExit(number, code))
