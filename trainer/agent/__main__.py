"""`python -m trainer.agent`, or `trainer-agent`."""

import sys

from trainer.agent import cli
from trainer.core.process import find_modules_here


def main() -> int:
    """Runs the program; returns its exit code."""
    find_modules_here()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
