"""A range of a run's steps in a flag: `--profile_steps=100:110`."""

import re

from trainer.core.exit_codes import UsageError

MOST = 1000  # Steps: a profile holds every operation of each.


def parse(text: str) -> range | None:
    """The steps of --profile_steps, as the numbers of completed steps before each; None where the flag says none.

    Raises:
      UsageError: it is no such range.
    """
    if not text:
        return None
    match = re.fullmatch(r"([0-9]{1,15}):([0-9]{1,15})", text)
    steps = range(int(match[1]), int(match[2])) if match else range(0)
    if not 1 <= len(steps) <= MOST:
        raise UsageError(
            f"--profile_steps={text!r} is no range of 1 to {MOST} steps; expected the completed steps at its begin and "
            "at its end, such as 100:110"
        )
    return steps
