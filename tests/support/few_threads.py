"""Another process gets no more threads and processes than it has, as in a pod with a limit of process ids."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from tests.support import cgroups


@contextlib.contextmanager
def few_threads(pid: int, more: int) -> Iterator[None]:
    """In the block the process can have `more` threads and processes than now.

    Raises:
      OSError: this user may not make a cgroup.
    """
    group = cgroups.hierarchy("pids")[0] / f"few-threads-{os.getpid()}"
    group.mkdir()
    home, _ = cgroups.hierarchy("pids", pid)
    try:
        threads = len(list(pathlib.Path(f"/proc/{pid}/task").iterdir()))
        (group / "pids.max").write_text(str(threads + more))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for line in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (home / "cgroup.procs").write_text(line)
        cgroups.remove(group)
