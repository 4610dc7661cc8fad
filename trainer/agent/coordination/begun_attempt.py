"""An attempt from its beginning until all is known of how it ended."""

import dataclasses

from trainer.agent.coordination.messages import Begin, Ended, Failure, Over
from trainer.core.causes import CONSEQUENCES, Cause


@dataclasses.dataclass(kw_only=True)
class BegunAttempt:
    """What the coordinator knows of the last attempt that it began."""

    begin: Begin
    members: dict[int, str]  # The agents in it: worker to token.
    over: Over | None = None  # What was said when it was over; None while it runs.
    failure: Failure | None = None  # What ended it, as far as known; None while it runs, and when the run is done.
    closed: bool = False  # Whether reports are no longer taken.

    @property
    def number(self) -> int:
        """Its number, from 1."""
        return self.begin.attempt

    def runs_with(self, index: int, token: str) -> bool:
        """Whether it runs, with this very agent in it."""
        return self.over is None and self.members.get(index) == token

    def report(self, index: int, ended: Ended) -> bool:
        """Takes in how it ended for a worker, which may explain what others have reported before.

        Returns:
          Whether that is news: the attempt is over by it, or a better cause is known.
        """
        if self.closed:
            return False
        if self.over is None:
            reason = ended.described(index)
            self.over = Over(attempt=self.number, cause=ended.cause, reason=reason, accused=(index,))
        elif self.failure is None or _precedence(ended.cause) <= _precedence(self.failure.ended.cause):
            return False
        if ended.cause is not Cause.DONE:
            self.failure = Failure(worker=index, ended=ended)
        return True

    def close(self) -> Over:
        """Takes no more reports; returns how it ended. If it still runs, it is worker 0's agent that leaves it."""
        self.closed = True
        if self.over is None:
            reason = Ended(cause=Cause.AGENT_LOST).described(0)
            self.over = Over(attempt=self.number, cause=Cause.AGENT_LOST, reason=reason, accused=(0,))
        return self.over


def _precedence(cause: Cause) -> int:
    """Of two causes that are reported for the end of one attempt, the higher one explains the other."""
    if cause in CONSEQUENCES:
        return 0
    return 1 if cause is Cause.AGREED else 2
