"""`python -m trainer.agent.shipped_code ARCHIVE FOLDER [RUN_DIR]`: what a pod does with the code sent to it.

It comes before the agent, which then has the code on its PYTHONPATH. What cannot be unpacked or installed ends the pod
as the agent would end it, so that the Job fails at once, with the reason.
"""

import os
import shutil
import sys
from pathlib import Path

from trainer.agent import finishing
from trainer.core import shipped_code
from trainer.core.exit_codes import ExitCode, TrainerError, UsageError


def main(archive: str, folder: str, run_dir: str = "") -> int:
    """Unpacks and installs; the chief's pod keeps the archive in its run directory, too."""
    try:
        try:
            content = Path(archive).read_bytes()
        except OSError as error:
            raise UsageError(f"the code cannot be read from {archive}: {error.strerror}") from None
        shipped_code.unpack(content, Path(folder))
        packages = shipped_code.install(Path(folder))
        if run_dir and os.environ.get("JOB_COMPLETION_INDEX", "0") == "0":
            Path(run_dir).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(archive, Path(run_dir) / shipped_code.ARCHIVE)
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        finishing.leave_early(error.exit_code, str(error), os.environ)
        return error.exit_code
    except OSError as error:  # The run's disk: another pod may have more luck.
        print(f"error: the code cannot be kept in {run_dir}: {error.strerror}", file=sys.stderr)
        return ExitCode.OUTPUT
    print(f"code {shipped_code.checksum(content)} is unpacked, and {packages} package(s) installed for it", flush=True)
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
