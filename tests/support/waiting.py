"""Waiting for what no line announces, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(seconds: float, what: str, condition: Callable[[], T | None], *, pause: float = 0.25) -> T:
    """Asks again and again until the answer is something.

    Args:
      seconds: how long it may take.
      what: what is waited for, as the failure names it.
      condition: asked every `pause` seconds.

    Returns:
      What `condition` returned in the end.

    Raises:
      AssertionError: it was nothing for all of the time.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not after {seconds} s"
        time.sleep(pause)
    return value
