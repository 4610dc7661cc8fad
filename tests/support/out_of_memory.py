"""Another process runs out of memory, and only that process."""

import contextlib
import os
import pathlib
import resource
from collections.abc import Iterator

from tests.support import cgroups


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
        cgroups.remove(group)


def _make_group() -> pathlib.Path:
    home, of_version_1 = cgroups.hierarchy("memory")
    group = home / f"starved-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if of_version_1 else "memory.max")).write_text("2000000")
    except OSError:
        group.rmdir()
        raise
    return group
