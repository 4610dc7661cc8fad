"""`python -m trainer [flags]`: one worker's training process."""

import sys
import time
import traceback

from trainer.training import cli

if __name__ == "__main__":
    try:
        cli.end(cli.main(sys.argv[1:], began=time.monotonic()))
    except Exception:
        traceback.print_exc()
        cli.end(1)
