"""How many failed attempts in a row a run may have."""

from collections.abc import Callable


class RestartBudget:
    """Counts failed attempts; a checkpoint newer than the one before begins the count anew."""

    def __init__(self, most: int, saved_step: Callable[[], int]) -> None:
        """Takes what is allowed.

        Args:
          most: failed attempts without a newer checkpoint that are followed by another.
          saved_step: the step of the newest checkpoint.
        """
        self.most = most
        self.failures = 0  # Since a newer checkpoint was saved.
        self._saved_step = saved_step
        self._saved_at_failure = saved_step()
        self._counted_attempt = 0

    def spent_by(self, attempt: int) -> bool:
        """Counts an attempt as failed, once; returns whether that was one too many."""
        saved = self._saved_step()
        if saved > self._saved_at_failure:
            self.failures, self._saved_at_failure = 0, saved
        if attempt != self._counted_attempt:
            self.failures, self._counted_attempt = self.failures + 1, attempt
        return self.failures > self.most
