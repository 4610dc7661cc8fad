"""How fast a run goes, and how long it waits for data."""

import time
from collections.abc import Callable


class Pace:
    """Over the running epoch, and since it was last told."""

    def __init__(self, batch: int, waited: Callable[[], float | None]) -> None:
        """Takes the examples of a step, and what gives the seconds in which none could be made for want of data.

        Of data in memory that is None.
        """
        self._batch, self._waited = batch, waited
        self._told = time.monotonic(), 0, 0.0  # When, the step then, seconds waited.
        self.is_told = False  # Whether anything was, since the process began.
        self._epoch = 0, 0.0, 0.0  # At the running epoch's begin: examples, seconds in steps, seconds waited.

    def begin(self, step: int) -> None:
        """The run goes on from a step."""
        self._told = time.monotonic(), step, 0.0

    def begin_epoch(self, examples: int, seconds: float) -> None:
        """An epoch begins, or goes on, after so many examples in steps that took so long."""
        self._epoch = examples, seconds, self._waited() or 0.0

    def of_epoch(self, examples: int, seconds: float) -> tuple[float, float | None]:
        """Examples per second of the running epoch's steps, and the seconds that it waited for data.

        Where this attempt has taken none of them it is the speed of the run.
        """
        begun, spent, before = self._epoch
        if examples > begun:
            examples, seconds = examples - begun, seconds - spent
        waited = self._waited()
        return examples / max(seconds, 1e-9), None if waited is None else waited - before

    def is_news(self, step: int) -> bool:
        """Whether there is more than was told; any thread may ask."""
        return self._told[1] < step or self._told[2] < (self._waited() or 0.0)

    def since_told(self, step: int) -> tuple[float, float | None]:
        """Examples per second since this was last asked, and the part of that time that was waited for data."""
        self.is_told, now, waited = True, time.monotonic(), self._waited()
        (before, step_before, waited_before), self._told = self._told, (now, step, waited or 0.0)
        seconds = max(now - before, 1e-9)
        share = None if waited is None else min(max(waited - waited_before, 0) / seconds, 1.0)
        return max(step - step_before, 0) * self._batch / seconds, share
