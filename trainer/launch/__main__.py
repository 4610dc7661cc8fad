"""`python -m trainer.launch`, or `trainer-launch`."""

import sys

from trainer.core.process import find_modules_here
from trainer.launch import cli


def main() -> int:
    """Runs the program; returns its exit code."""
    find_modules_here()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
