"""That one process alone writes a run directory, as long as it runs."""

import fcntl
import functools
import os
import time
from pathlib import Path

from absl import logging

from trainer.core.exit_codes import UsageError

_VANISH_SECONDS = 5.0  # A process that was killed holds its lock until the kernel has taken it apart.
_PAUSE = 0.05


@functools.cache  # Once a process: a second lock would wait for the first.
def hold(run_dir: Path) -> None:
    """Locks the folder itself until this process ends, however it does; no file tells of it.

    Where there are no such locks, as on NFS, or where another machine has it, perhaps one that was lost with its pod,
    the run goes on without: it must not end for want of what only keeps people from a mistake.

    Raises:
      UsageError: another process of this machine holds it.
    """
    deadline = time.monotonic() + _VANISH_SECONDS
    try:
        descriptor = os.open(run_dir, os.O_RDONLY)
        while not (locked := _locked(descriptor)) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        holder = None if locked else _holder(os.fstat(descriptor).st_ino)
    except OSError:
        return
    if holder is not None:
        raise UsageError(
            f"--run_dir={run_dir} is in use by process {holder}; wait until that has ended, or name another folder"
        )
    if not locked:
        logging.warning("--run_dir=%s is in use by another machine, or by one that was lost: this run goes on", run_dir)
    os.register_at_fork(after_in_child=lambda: os.close(descriptor))  # A child that lives on is not the run.


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(inode: int) -> int | None:
    """The process of this machine that has locked a file; None: none has."""
    for line in Path("/proc/locks").read_text().splitlines():
        _, kind, _, _, process, file, *_ = line.split()
        if kind == "FLOCK" and file.endswith(f":{inode}"):
            return int(process)
    return None
