"""`python -m trainer.agent.shipped_code RUN_DIR ARCHIVE FOLDER [AGENT'S ARGUMENTS...]`: a pod with code sent to it.

It unpacks the code, installs what that asks for, and goes on as the agent, which then has both on its PYTHONPATH;
without arguments for the agent it ends there. What cannot be unpacked or installed ends the pod as the agent would end
it, so that the Job fails at once, with the reason. All of it is one process, the container's process 1, to which
SIGTERM comes while pip runs, too.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

from trainer.core import shipped_code
from trainer.core.exit_codes import ExitCode, OutputError, TrainerError, UsageError


class _ToldToGoError(TrainerError):
    """SIGTERM came before there was an agent."""

    exit_code = ExitCode.TERMINATED


def main(run_dir: str, archive: str, folder: str, *agent_argv: str) -> int:
    """Unpacks and installs, and then is the agent; the chief's pod keeps the archive in its run directory, too."""
    # Before anything else: a container's process 1 does not get the signals that it has not asked for.
    signal.signal(signal.SIGTERM, _leave)
    from trainer.agent import cli, finishing

    try:
        print(_prepare(run_dir, archive, Path(folder)), flush=True)
        if not agent_argv:
            return ExitCode.DONE
        os.environ["PYTHONPATH"] = shipped_code.python_path(Path(folder), os.environ.get("PYTHONPATH", ""))
        sys.path[1:1] = shipped_code.python_path(Path(folder)).split(os.pathsep)
        return cli.main(agent_argv)
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        finishing.leave_early(error.exit_code, str(error), os.environ)
        return error.exit_code


def _leave(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # It leaves already.
    raise _ToldToGoError("SIGTERM came while the code was unpacked and what it asks for was installed")


def _prepare(run_dir: str, archive: str, folder: Path) -> str:
    """Unpacks and installs; returns what there is now, for a person."""
    try:
        content = Path(archive).read_bytes()
    except OSError as error:
        raise UsageError(f"the code cannot be read from {archive}: {error.strerror}") from None
    shipped_code.unpack(content, folder)
    packages = shipped_code.install(folder)
    if os.environ.get("JOB_COMPLETION_INDEX", "0") == "0":
        try:
            Path(run_dir).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(archive, Path(run_dir) / shipped_code.ARCHIVE)
        except OSError as error:  # The run's disk: another pod may have more luck.
            raise OutputError(f"the code cannot be kept in {run_dir}: {error.strerror}") from None
    return f"code {shipped_code.checksum(content)} is unpacked, and {packages} package(s) installed for it"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
