"""`python -m trainer.launch`: starts training and says how it ended and why."""

import sys
from collections.abc import Sequence

from trainer import fleet
from trainer.agent import split


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the launcher; returns its exit code."""
    own, trainer_argv = split(list(sys.argv[1:] if argv is None else argv))
    if any(argument in ("--local", "--local=true", "-local") for argument in own):
        return fleet.main(own, trainer_argv)
    print("error: say where to train: --local runs the workers on this machine", file=sys.stderr)
    return fleet.LaunchCode.USAGE


if __name__ == "__main__":
    sys.exit(main())
