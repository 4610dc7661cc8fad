"""`python -m trainer.agent`."""

import sys

from trainer.agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
