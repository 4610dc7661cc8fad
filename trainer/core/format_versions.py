"""The versions of what is written for another program, or for a later version of the same.

A file, object or message says its format as a whole number under the key "format". What 0.1.0 wrote says none: that is
format 1. A reader takes every format up to the one it knows; a newer one is named as such, never as damage.
"""

from collections.abc import Mapping
from typing import Any

from trainer.core.exit_codes import DataError

KEY = "format"

CHECKPOINT = 2
MANIFEST = 1
ATTEMPTS = 2
TERMINATION_MESSAGE = 2
TRIALS = 1


def version(value: Mapping[str, Any], newest: int, *, what: str) -> int:
    """The format that `value` says it is of, which is one that this program knows.

    Args:
      value: what was read.
      newest: the newest format that this program reads; it reads all before it, too.
      what: names what was read, with its path or address.

    Raises:
      DataError: it is of a later format, or says none that could be.
    """
    number = value.get(KEY, 1)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise DataError(f"{what} says that its format is {number!r}, expected a whole number from 1: it is damaged")
    if number > newest:
        raise DataError(
            f"{what} is of format {number}, this version of the trainer reads up to {newest}: "
            "a newer version wrote it; use that one, or a later one"
        )
    return number
