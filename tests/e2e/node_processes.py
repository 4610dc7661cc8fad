"""The processes of a pod of tests/cluster, as its node sees them: they are this machine's."""

import pathlib
from typing import Any


def processes(pod: dict[str, Any]) -> dict[int, list[str]]:
    """The command lines of the worker's container by process id, process 1 of the container first."""
    container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if container in (folder / "cgroup").read_text():
                found[int(folder.name)] = (folder / "cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue  # It ended while it was looked at.
    return dict(sorted(found.items(), key=lambda item: "trainer.agent" not in item[1]))


def agent(pod: dict[str, Any]) -> int:
    """The container's process 1."""
    return next(pid for pid, command in processes(pod).items() if "trainer.agent" in command)


def training(pod: dict[str, Any]) -> int:
    """The training process; a warm spare waits without arguments."""
    return next(
        pid
        for pid, command in processes(pod).items()
        if "trainer" in command and any(word.startswith("--run_dir=") for word in command)
    )
