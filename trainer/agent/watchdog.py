"""One attempt as a worker's agent watches it: what it does about its training process, and how that ended."""

import time
from collections.abc import Callable

from trainer.agent.child import Child
from trainer.agent.flags import AgentConfig
from trainer.agent.messages import Begin, Ended, Over
from trainer.agent.status import Status
from trainer.core.causes import Cause
from trainer.core.exit_codes import FINAL, ExitCode

_BEAT_TIMEOUT = 10.0
# The same before the first step: an import from a slow disk, or waiting for peers, holds all threads up.
_START_TIMEOUT = 120.0
_STACKS_SECONDS = 1.0  # For faulthandler to write them before the kill.
_LEAVE_SECONDS = 10.0  # For a training process to leave by itself when all do.


class Attempt:
    """Watches a training process until it has ended."""

    def __init__(
        self, begin: Begin, child: Child, *, config: AgentConfig, status: Status, say: Callable[[str], None]
    ) -> None:
        """Begins to watch."""
        self.number = begin.attempt
        self._child, self._config, self._status, self._say = child, config, status, say
        self._cause: Cause | None = None  # What this agent has decided.
        self._deadline = float("inf")  # When the process is killed if it has not left.

    @property
    def stopping(self) -> bool:
        """Whether the process was asked to leave."""
        return self._cause in (Cause.LEFT, Cause.AGREED)

    def over(self, over: Over) -> None:
        """The attempt is over: where all leave in order this process does, too; else there is nothing to wait for."""
        if self._cause is not None:
            return
        if over.cause in (Cause.DONE, Cause.LEFT, Cause.AGREED):
            self._cause, self._deadline = Cause.STOPPED, time.monotonic() + _LEAVE_SECONDS
            return
        if not self._child.ending():  # Or its peers may have lost this very process: how it ends is its own doing.
            self._cause = Cause.STOPPED
        self._child.kill()

    def leave(self, cause: Cause, since: float) -> None:
        """Lets the process save and leave, within the grace period that began at `since`.

        Before its first step it has nothing to save and is killed: it would not hear, since TensorFlow holds the
        interpreter as long as it waits for its peers.
        """
        if self._cause is not None:
            return
        self._cause, self._deadline = cause, since + self._config.grace
        if self._status.first[0]:
            self._child.terminate()
        else:
            self._child.kill()

    def look(self) -> None:
        """Looks at the clocks."""
        silent, still = self._child.silent_seconds(), self._status.seconds_since_step
        frozen = silent > (_BEAT_TIMEOUT if self._status.first[0] else _START_TIMEOUT)
        if self._cause is None and (frozen or (silent > _BEAT_TIMEOUT and self._child.stopped())):
            self._put_down(Cause.FROZEN, f"it has not beaten for {silent:.0f} s: frozen")
        elif self._cause is None and still > self._config.hang_timeout:
            self._put_down(Cause.HUNG, f"it made no step for --hang_timeout={self._config.hang_timeout:g} s")
        elif time.monotonic() > self._deadline:
            self._child.kill()

    def ended(self, *, finished: bool) -> Ended:
        """How the process has ended.

        Args:
          finished: whether the result, which is written last, is there.
        """
        code = -1 if self._child.code is None else self._child.code
        return Ended(
            cause=Cause.DONE if finished and code not in FINAL else self._why(code),
            attempt=self.number,
            code=code,
            step=self._status.step,
            errors=self._child.errors,
        )

    def _why(self, code: int) -> Cause:
        if code == ExitCode.DONE:
            return Cause.DONE
        if self._cause is not None and self._cause is not Cause.STOPPED:
            return self._cause
        if code in FINAL:
            return Cause.FINAL
        if code == ExitCode.PEER_LOST:
            return Cause.PEER_LOST
        if self._cause is Cause.STOPPED:
            return Cause.STOPPED
        return Cause.AGREED if code == ExitCode.TERMINATED else Cause.CRASH

    def _put_down(self, cause: Cause, why: str) -> None:
        """Lets a process that does not go on show where it stands, and kills it a moment later."""
        self._say(f"the training process is killed: {why}; the stacks of its threads:")
        self._child.show_stacks()
        self._cause, self._deadline = cause, time.monotonic() + _STACKS_SECONDS
