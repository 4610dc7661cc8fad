"""Processes that end with the one that started them."""

import contextlib
import ctypes
import io
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO

_PR_SET_PDEATHSIG = 1
_MOST_FILES = 2**20  # Some runtimes have no limit, and a program may make tables of that size.
_soft_files: int | None = None  # The soft limit of open files that this process was started with, once it is raised.
_libc = ctypes.CDLL(None, use_errno=True)


def make_outputs_usable() -> None:
    """Lets every print succeed: standard output may be closed (`>&-`), or lack a character (PYTHONIOENCODING=ascii)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def outlive_outputs() -> None:
    """Lets this process go on where its outputs cannot be written any more: nobody reads them, or their disk is full.

    What it says from then on is lost: for a program whose work is not what it prints.
    """
    for name in ("stdout", "stderr"):
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            setattr(sys, name, _Lossy(stream))


class _Lossy(io.TextIOWrapper):
    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self._before = stream  # Which would close the buffer with its own end.

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Lets all that is written to the descriptor, by whomever, go nowhere."""
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self.fileno())
        if not isinstance(error, BrokenPipeError) and self is not sys.stderr:
            why = f"standard output cannot be written to ({error.strerror}): what is said from now on is lost"
            print(f"warning: {why}", file=sys.stderr, flush=True)


def find_modules_here() -> None:
    """Lets modules be found in the working directory, as `python -m` does and a console script does not.

    Not where Python was told to leave that out (`python -P`, PYTHONSAFEPATH).
    """
    with contextlib.suppress(FileNotFoundError):  # Somebody has removed the working directory.
        if not sys.flags.safe_path and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())


def raise_open_files() -> None:
    """Lets this process open as many files as it may; what it starts has the soft limit of before.

    That is 1,024 in many containers: programs that call select() break beyond it, and whoever needs more asks for it.
    """
    global _soft_files
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if _soft_files is None and soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        _soft_files = soft


def most_open_files() -> int:
    """How many files this process can have open at once, connections among them."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_FILES if soft == resource.RLIM_INFINITY else soft


def spawn(
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    pass_fds: Sequence[int] = (),
    output: int | IO[bytes] | None = None,
    cores: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts a process, in a session of its own, that the kernel kills when this one ends.

    Call it from the main thread only: the kernel watches the thread that spawned, not the process.

    Args:
      command: the program and its arguments.
      environ: its whole environment.
      pass_fds: descriptors it inherits under the same numbers.
      output: as `subprocess.Popen` takes it for stdout and for stderr; None: this process's own.
      cores: the CPU cores it may use; none given: those of this process.
    """
    parent = os.getpid()

    def in_child() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # It ended before the line above; nobody would ever send the signal.
            os._exit(1)
        if cores:
            os.sched_setaffinity(0, cores)
        if _soft_files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (_soft_files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    return subprocess.Popen(
        command,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=pass_fds,
        start_new_session=True,
        preexec_fn=in_child,
    )


def shell_code(status: int) -> int:
    """The exit code of a wait status as a shell gives it: 128 and the signal's number for a signal."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def signal_name(code: int) -> str | None:
    """The signal behind an exit code above 128, such as "SIGKILL"; None: there is none."""
    try:
        return signal.Signals(code - 128).name
    except ValueError:
        return None
