"""Another process gets no more threads and processes than it has, as in a pod with a limit of process ids."""

import contextlib
import os
import pathlib
import time
from collections.abc import Iterator

_ROOT = pathlib.Path("/sys/fs/cgroup")


@contextlib.contextmanager
def few_threads(pid: int, more: int) -> Iterator[None]:
    """In the block the process can have `more` threads and processes than now.

    Raises:
      OSError: this user may not make a cgroup.
    """
    group = _group()
    group.mkdir()
    home = _home(pid)
    try:
        threads = len(list(pathlib.Path(f"/proc/{pid}/task").iterdir()))
        (group / "pids.max").write_text(str(threads + more))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for line in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (home / "cgroup.procs").write_text(line)
        _remove(group)


def _controllers(pid: int | str) -> dict[str, str]:
    lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {name: path for line in lines for _, names, path in [line.split(":", 2)] for name in names.split(",")}


def _home(pid: int | str) -> pathlib.Path:
    controllers = _controllers(pid)
    if "pids" in controllers:
        return _ROOT / "pids" / controllers["pids"].strip("/")
    return _ROOT / controllers[""].strip("/")


def _group() -> pathlib.Path:
    return _home("self") / f"few-threads-{os.getpid()}"


def _remove(group: pathlib.Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            group.rmdir()
            return
        except OSError:  # Something is still in it.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
