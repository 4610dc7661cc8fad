"""Another process runs out of memory, and only that process."""

import contextlib
import os
import pathlib
import resource
import time
from collections.abc import Iterator

_ROOT = pathlib.Path("/sys/fs/cgroup")


@contextlib.contextmanager
def starved(pid: int) -> Iterator[None]:
    """Puts a process into a memory cgroup that is far too small, so that the kernel kills it at its next allocation.

    Where this user may not make a cgroup, a limit on the process lets its allocations fail instead, and it aborts.
    """
    try:
        group = _make_group()
    except OSError:
        used = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.prlimit(pid, resource.RLIMIT_AS, (used, used))
        yield
        return
    try:
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        _remove(group)


def _make_group() -> pathlib.Path:
    controllers = {
        line.split(":")[1]: line.split(":", 2)[2] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    }
    if "memory" in controllers:
        group = _ROOT / "memory" / controllers["memory"].strip("/") / f"starved-{os.getpid()}"
        limit = "memory.limit_in_bytes"
    else:
        group, limit = _ROOT / controllers[""].strip("/") / f"starved-{os.getpid()}", "memory.max"
    group.mkdir()
    try:
        (group / limit).write_text("2000000")
    except OSError:
        group.rmdir()
        raise
    return group


def _remove(group: pathlib.Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            group.rmdir()
            return
        except OSError:  # The process is still in it.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
