"""Where a process's cgroup lies, on version 1 and on version 2, and how a cgroup of a test's own goes."""

import pathlib
import time

_ROOT = pathlib.Path("/sys/fs/cgroup")
_SECONDS = 60.0  # For what is still in it.


def hierarchy(controller: str, pid: int | str = "self") -> tuple[pathlib.Path, bool]:
    """The cgroup of a process as a controller sees it, and whether that controller is one of version 1."""
    lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    paths = {name: path for line in lines for _, names, path in [line.split(":", 2)] for name in names.split(",")}
    if controller in paths:
        return _ROOT / controller / paths[controller].strip("/"), True
    return _ROOT / paths[""].strip("/"), False


def remove(group: pathlib.Path) -> None:
    """Removes a cgroup as soon as nothing is in it."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            group.rmdir()
            return
        except OSError:  # Something is still in it.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
