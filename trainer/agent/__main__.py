"""`python -m trainer.agent`."""

import sys

from trainer.agent.agent import main

if __name__ == "__main__":
    sys.exit(main())
