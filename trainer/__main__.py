"""`python -m trainer [flags]`, or `trainer`: one worker's training process."""

import sys
import time
import traceback

from trainer.core.process import find_modules_here, make_outputs_usable, outlive_outputs
from trainer.training import cli


def main() -> None:
    """Trains, and ends this process."""
    began = time.monotonic()
    try:
        make_outputs_usable()
        outlive_outputs()
        find_modules_here()
        cli.end(cli.main(sys.argv[1:], began=began))
    except Exception:
        traceback.print_exc()
        cli.end(1)


if __name__ == "__main__":
    main()
