"""`python -m trainer.agent`, or `trainer-agent`."""

import signal
import sys

from trainer.core.exit_codes import ExitCode
from trainer.core.process import find_modules_here


def main() -> int:
    """Runs the program; returns its exit code."""
    # Before the imports, which take a while: a container's process 1 gets no signal that it has not asked for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.TERMINATED))
    from trainer.agent import cli

    find_modules_here()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
