"""`python -m trainer.agent.shipped_code RUN_DIR ARCHIVE FOLDER [AGENT'S ARGUMENTS...]`: a pod with code sent to it.

ARCHIVE is a file, or the address of an object in the output. It unpacks the code, installs what that asks for, and goes
on as the agent, which then has both on its PYTHONPATH; without arguments for the agent it ends there. What cannot be
unpacked or installed ends the pod as the agent would end it, so that the Job fails at once, with the reason. All of it
is one process, the container's process 1, to which SIGTERM comes while pip runs, too.
"""

import contextlib
import os
import queue
import signal
import sys
import threading
from pathlib import Path

from trainer.core import shipped_code, threads
from trainer.core.exit_codes import ExitCode, OutputError, TrainerError, UsageError


class _ToldToGoError(TrainerError):
    """SIGTERM came before there was an agent."""

    exit_code = ExitCode.TERMINATED


def main(run_dir: str, archive: str, folder: str, *agent_argv: str) -> int:
    """Unpacks and installs, and then is the agent; the chief's pod keeps the archive in its run directory, too."""
    # Before the imports, which take a while: a container's process 1 gets no signal that it has not asked for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.TERMINATED))
    from trainer.agent import cli, finishing

    try:
        signal.signal(signal.SIGTERM, _leave)
        print(_prepare(run_dir, archive, Path(folder)), flush=True)
        if not agent_argv:
            return ExitCode.DONE
        os.environ["PYTHONPATH"] = shipped_code.python_path(Path(folder), os.environ.get("PYTHONPATH", ""))
        sys.path[1:1] = shipped_code.python_path(Path(folder)).split(os.pathsep)
        return cli.main(agent_argv)
    except TrainerError as error:
        finishing.leave_early(error.tell(), str(error), os.environ)
        return error.exit_code


def _leave(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # It leaves already.
    raise _ToldToGoError("SIGTERM came before the code was unpacked and what it asks for installed")


def _prepare(run_dir: str, archive: str, folder: Path) -> str:
    """Unpacks and installs; returns what there is now, for a person."""
    content = _fetched(archive) if "://" in archive else _read(archive)
    shipped_code.unpack(content, folder)
    packages = shipped_code.install(folder)
    if os.environ.get("JOB_COMPLETION_INDEX", "0") == "0":
        try:
            Path(run_dir).mkdir(parents=True, exist_ok=True)
            (Path(run_dir) / shipped_code.ARCHIVE).write_bytes(content)
        except OSError as error:  # The run's disk: another pod may have more luck.
            raise OutputError(f"the code cannot be kept in {run_dir}: {error.strerror}") from None
    return f"code {shipped_code.checksum(content)} is unpacked, and {packages} package(s) installed for it"


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"the code cannot be read from {path}: {error.strerror}") from None


def _fetched(address: str) -> bytes:
    """The object of an address, read in another thread: this one hears signals only while it waits for no server."""
    from trainer.output import sent_code  # The stores' clients are large, and a ConfigMap does not need them.

    answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def fetch() -> None:
        try:
            answers.put(sent_code.fetch(address))
        except BaseException as error:  # A client's panic, too.
            answers.put(threads.as_exception(error))

    threads.start_patiently(threading.Thread(target=fetch, name="code", daemon=True))
    while True:
        with contextlib.suppress(queue.Empty):
            answer = answers.get(timeout=shipped_code.TURN_SECONDS)
            break
    if isinstance(answer, Exception):
        raise answer
    return answer


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
