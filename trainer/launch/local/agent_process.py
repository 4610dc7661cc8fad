"""One worker of a fleet on this machine: its agent as a process, and threads that read what it prints."""

import collections
import dataclasses
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO

from trainer.core.process import spawn

_KEPT_LINES = 20
_READ_SECONDS = 5.0  # So long, at most, the last lines of an agent that has ended are waited for.


@dataclasses.dataclass(frozen=True)
class AgentLine:
    """A line that an agent, or its training process, printed."""

    worker: "Worker"
    text: str
    error: bool  # Whether it was printed on standard error.


@dataclasses.dataclass(frozen=True)
class AgentExit:
    """An agent has ended; all its lines came before."""

    worker: "Worker"
    process: subprocess.Popen[bytes]
    code: int  # Its exit code; negative: the signal that ended it.


AgentEvents = queue.SimpleQueue[AgentLine | AgentExit | signal.Signals]
"""What happens to a fleet: its agents' lines and ends, and signals to the launcher."""


@dataclasses.dataclass
class Worker:
    """One worker. It may have had several agents, one after another."""

    index: int
    port: int  # The port that its agent listens on.
    process: subprocess.Popen[bytes] | None = None  # Its agent; None: it does not run.
    error_lines: collections.deque[str] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=_KEPT_LINES)
    )  # The last ones, which say why it failed, if it does.

    def start(
        self, arguments: Sequence[str], environ: Mapping[str, str], cores: Sequence[int], events: AgentEvents
    ) -> None:
        """Starts an agent, and threads that put what it does among the events.

        Args:
          arguments: the agent's, and those of the training program after `--`.
          environ: what the agent's environment has besides this one's.
          cores: those that it and its training process may use.
          events: take its lines and its end.

        Raises:
          OSError, RuntimeError: this machine gives no more processes, files or threads.
        """
        self.process = process = spawn(
            (sys.executable, "-m", "trainer.agent", *arguments),
            {**os.environ, **environ},
            output=subprocess.PIPE,
            cores=cores,
        )
        readers = [
            threading.Thread(target=self._read, args=(stream, error, events), daemon=True)
            for stream, error in ((process.stdout, False), (process.stderr, True))
            if stream
        ]
        waiter = threading.Thread(target=self._wait, args=(process, readers, events), daemon=True)
        for thread in (*readers, waiter):
            thread.start()

    def send(self, number: signal.Signals) -> None:
        """Sends its agent a signal, if that runs."""
        if self.process and self.process.returncode is None:
            self.process.send_signal(number)

    def _read(self, stream: IO[bytes], error: bool, events: AgentEvents) -> None:
        with stream:
            for line in stream:
                events.put(AgentLine(self, line.decode(errors="replace").rstrip(), error))

    def _wait(self, process: subprocess.Popen[bytes], readers: Sequence[threading.Thread], events: AgentEvents) -> None:
        code = process.wait()
        for reader in readers:  # They end by themselves, unless a process that the agent left behind holds the pipe.
            reader.join(_READ_SECONDS)
        events.put(AgentExit(self, process, code))
