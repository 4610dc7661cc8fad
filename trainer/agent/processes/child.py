"""A child process of an agent: the training process, a warm spare that becomes it, or TensorBoard."""

import collections
import contextlib
import errno
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from trainer.core import agent_link, threads
from trainer.core.process import shell_code, spawn
from trainer.core.safe_text import one_line, redacted

_HAND_OVER_BYTES = 2**20  # As much as the kernel gives who is not root.
_KEPT_LINES = 20  # Last lines of standard error, for the verdict.
_LONGEST_LINE = 1 << 16
_LONGEST_ERROR = 500  # Characters of a line that is kept: it travels in messages, and into attempts.jsonl.
_CHATTER = re.compile(
    r"[IW]\d{4} |\d{4}-\d\d-\d\d [\d:.]+: [IW] "
)  # What TensorFlow's C++ code writes to inform or warn.
_PF_EXITING = 0x4  # A flag in /proc/PID/stat; the kernel sets it before it closes the process's sockets.
_LATE = 3.0  # Seconds between two looks at its beats that say that this process itself did not run.
_DRAIN_SECONDS = 2.0  # For reading what is left in its pipes, which a grandchild may hold open for ever.


class Child:
    """One process. Threads read its output; all else is called from the agent's main thread."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        spare: bool,
        on_line: Callable[[bytes, bool], None],
    ) -> None:
        """Starts it.

        Args:
          command: the program and its arguments; a spare's arguments are handed over later.
          environ: its whole environment.
          spare: whether it is to import TensorFlow and wait.
          on_line: called with each line of its output, with its end, and whether it is of standard error.

        Raises:
          OSError: this machine gives no more processes, files or threads now.
        """
        self._on_line = on_line
        self._errors: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self.spare = spare
        self.code: int | None = None  # Its exit code as a shell gives it; None while it runs.
        self._last_beat: float | None = None
        self.is_busy = self.waits_for_data = False  # Whether its last beat says so.
        self._silence_began = self._looked_at = time.monotonic()  # Counted from here or from the last beat.
        self._hand_over: int | None = None
        with contextlib.ExitStack() as upon_failure:
            self._beats, beat_end = _pipe(upon_failure)
            os.set_blocking(self._beats, False)
            environ = {**environ, "PYTHONUNBUFFERED": "1", agent_link.BEAT_FD: str(beat_end)}
            inherited = [beat_end]
            if spare:
                hand_over_end, self._hand_over = _pipe(upon_failure)
                with contextlib.suppress(OSError):  # The TF_CONFIG of thousands goes in without waiting for a reader.
                    fcntl.fcntl(self._hand_over, fcntl.F_SETPIPE_SZ, _HAND_OVER_BYTES)
                environ[agent_link.SPARE_FD] = str(hand_over_end)
                inherited.append(hand_over_end)
            self._process = spawn(command, environ, pass_fds=inherited, output=subprocess.PIPE)
            upon_failure.callback(self._give_up)
            self._readers = [
                threading.Thread(target=self._read, args=(stream, error), name=f"output {self.pid}", daemon=True)
                for stream, error in ((self._process.stdout, False), (self._process.stderr, True))
                if stream
            ]
            if not all(map(threads.start, self._readers)):
                raise OSError(errno.EAGAIN, "there is no room for another thread")
            upon_failure.pop_all()
        for descriptor in inherited:
            os.close(descriptor)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def errors(self) -> tuple[str, ...]:
        """The last lines of its standard error."""
        return tuple(self._errors)

    @property
    def awake(self) -> bool:
        """Whether it has beaten; of a spare: whether its imports are done."""
        return self._last_beat is not None

    def hand_over(self, environ: Mapping[str, str], argv: Sequence[str]) -> bool:
        """Lets a spare become the training process; returns False when it has ended."""
        if self._hand_over is None:
            return False
        line = json.dumps({"environ": dict(environ), "argv": list(argv)}) + "\n"
        try:
            os.write(self._hand_over, line.encode())
        except BrokenPipeError:
            return False
        os.close(self._hand_over)
        self._hand_over, self.spare, self._silence_began = None, False, time.monotonic()
        self._errors.clear()
        return True

    def silent_seconds(self) -> float:
        """Seconds since the last beat, or since it was started."""
        now, looked_before = time.monotonic(), self._looked_at
        self._looked_at = now
        with contextlib.suppress(BlockingIOError):
            if beats := os.read(self._beats, 1 << 16):
                self._last_beat, self.is_busy = now, beats.endswith(agent_link.BUSY)
                self.waits_for_data = beats.endswith(agent_link.HUNGRY)
        if now - looked_before > _LATE:  # The machine slept or this process was stopped: the count begins anew.
            self._silence_began = now
        return now - max(self._last_beat or 0.0, self._silence_began)

    def stopped(self) -> bool:
        """Whether a signal has stopped it: a silence that no slow start explains."""
        return self._stat()[0] in "Tt"

    def ending(self) -> bool:
        """Whether it has ended, though not reaped, or the kernel is ending it: no signal has an effect any more."""
        stat = self._stat()
        return stat[0] in "ZX" or bool(int(stat[6]) & _PF_EXITING)

    def terminate(self) -> None:
        """Asks it to save and leave."""
        self._signal(signal.SIGTERM)

    def show_stacks(self) -> None:
        """Lets it write the stacks of its threads to standard error."""
        self._signal(agent_link.STACKS_SIGNAL)

    def kill(self) -> None:
        """Kills it and whatever it started."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def ended(self, status: int) -> None:
        """Takes its wait status after it was reaped, and reads to the end what it has written."""
        self.code = self._process.returncode = shell_code(status)
        for reader in self._readers:
            reader.join(_DRAIN_SECONDS)
        os.close(self._beats)
        if self._hand_over is not None:
            os.close(self._hand_over)

    def _give_up(self) -> None:
        """Kills and reaps what nobody would read from."""
        self.kill()
        self._process.wait()
        for reader, stream in zip(self._readers, (self._process.stdout, self._process.stderr), strict=True):
            if stream and reader.ident is None:
                stream.close()

    def _stat(self) -> list[str]:
        """The fields of /proc/PID/stat from the third on: its state, and six fields later its flags."""
        try:
            return pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ["?", *"000000"]

    def _signal(self, number: int) -> None:
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _read(self, stream: IO[bytes], error: bool) -> None:
        with stream:
            while line := stream.readline(_LONGEST_LINE):
                text = line.decode(errors="replace") if error else ""
                if not _CHATTER.match(text) and (text := one_line(redacted(text), _LONGEST_ERROR)):
                    self._errors.append(text)
                self._on_line(line, error)


def _pipe(upon_failure: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        upon_failure.callback(os.close, end)
    return ends
