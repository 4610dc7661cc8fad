"""A worker's log as its agent writes it, for tests of the log and of the mirror that copies it."""

import pathlib

from trainer.agent.records.worker_log import WorkerLog
from trainer.core.run_dir import log_key


def a_log(
    run_dir: pathlib.Path, attempt: int = 1, *, worker: int = 0, limit: int = 2**24
) -> tuple[WorkerLog, list[str]]:
    """The log of one attempt, and the list that its warnings are put into."""
    warnings: list[str] = []
    return WorkerLog(run_dir, log_key(worker, attempt), limit=limit, warn=warnings.append), warnings


def write(log: WorkerLog, *lines: bytes) -> None:
    """Writes lines, and waits until they are on the disk."""
    for line in lines:
        log.write(line)
    log.flush(30)
