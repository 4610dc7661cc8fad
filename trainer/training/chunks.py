"""How many steps run in one compiled call: as many as take about a tenth of a second, so that a wish is soon heard."""

TARGET_SECONDS = 0.075
_GROWTH = 4  # At most so many times as long as the chunk before.


class ChunkLength:
    """The steps of the next chunk, by the chief's clock. It changes when something is looked at, never a result."""

    def __init__(self, *, fixed: int = 0) -> None:
        """`fixed`: a number of steps that the clock does not change; 0 for none."""
        self._fixed = fixed
        self.steps = fixed or 1

    def took(self, steps: int, seconds: float) -> None:
        """Takes what a chunk of so many steps took."""
        if self._fixed or steps < self.steps:  # Less at an epoch's end says little.
            return
        wanted = TARGET_SECONDS / max(seconds / steps, 1e-9)
        self.steps = max(1, min(int(wanted), _GROWTH * self.steps))
