"""What an agent does about its training process while it runs, and what its end was caused by."""

import os
import time
from collections.abc import Callable

from trainer.agent.coordination.messages import Ended, Over
from trainer.agent.flags import AgentConfig
from trainer.agent.processes.child import Child
from trainer.agent.status import Status
from trainer.core.causes import Cause
from trainer.core.exit_codes import ExitCode, rule

_BEAT_TIMEOUT = 10.0
# The same before the first step: an import from a slow disk, or waiting for peers, holds all threads up.
_START_TIMEOUT = 120.0
_STACKS_SECONDS = 1.0  # For faulthandler to write the stacks before the process is killed.
# A worker that waits for data holds all others up in their collectives: it is the one to be named.
_STARVED_FIRST_SECONDS = 2.0
LEAVE_SECONDS = 10.0  # For a training process to leave by itself when all do.

_NO_RESULT = "the training process ended with 0 before there was a result: something in it has called exit"


class Watchdog:
    """Watches one training process until it has ended."""

    def __init__(
        self, attempt: int, child: Child, *, config: AgentConfig, status: Status, say: Callable[[str], None]
    ) -> None:
        """Begins to watch.

        Args:
          attempt: the number of the attempt that the process is part of.
          child: the process.
          config: the agent's flags.
          status: what is known of the worker's steps.
          say: takes a sentence for a person.
        """
        self._attempt, self._child, self._config, self._status, self._say = attempt, child, config, status, say
        self._decided: Cause | None = None  # Why this agent has ended the process, or has asked it to leave.
        self._kill_at = float("inf")  # When the process is killed if it has not left, on time.monotonic's clock.

    @property
    def asked_to_leave(self) -> bool:
        """Whether the process was asked to save and leave."""
        return self._decided in (Cause.LEFT, Cause.AGREED)

    def attempt_over(self, over: Over) -> None:
        """The attempt is over: where all leave in order this process does, too; else there is nothing to wait for."""
        if self._decided is not None:
            return
        if over.cause in (Cause.DONE, Cause.LEFT, Cause.AGREED):
            self._decided, self._kill_at = Cause.STOPPED, time.monotonic() + LEAVE_SECONDS
            return
        # A process that is already ending may be the very one that its peers have lost: its end has its own cause.
        if not self._child.ending():
            self._decided = Cause.STOPPED
        self._child.kill()

    def leave(self, cause: Cause, since: float) -> None:
        """Lets the process save and leave, within the grace period that began at `since`.

        Before its first step it has nothing to save and is killed: it would not hear, since TensorFlow holds the
        interpreter as long as it waits for its peers.
        """
        if self._decided is not None:
            return
        self._decided, self._kill_at = cause, since + self._config.grace
        if self._status.has_stepped:
            self._child.terminate()
        else:
            self._child.kill()

    def check(self) -> None:
        """Kills the process if it is frozen, makes no step or has not left in time; called every half second."""
        silent = self._child.silent_seconds()
        if self._child.is_busy:  # Loading, compiling and exporting may take many minutes, and are no hang.
            self._status.moved()
        idle = self._status.seconds_since_step
        may_be_silent = _BEAT_TIMEOUT if self._status.has_stepped or self._child.stopped() else _START_TIMEOUT
        if self._decided is None and silent > may_be_silent:
            self._show_stacks_and_kill(Cause.FROZEN, f"it has not beaten for {silent:.0f} s: frozen")
        elif self._decided is None and self._child.waits_for_data and idle > self._config.hang_timeout:
            self._show_stacks_and_kill(
                Cause.STARVED,
                f"it waited for data for --hang_timeout={self._config.hang_timeout:g} s: look at the storage",
            )
        elif self._decided is None and idle > self._config.hang_timeout + _STARVED_FIRST_SECONDS:
            self._show_stacks_and_kill(
                Cause.HUNG, f"it made no step for --hang_timeout={self._config.hang_timeout:g} s"
            )
        elif time.monotonic() > self._kill_at:
            self._child.kill()

    def ended(self, *, has_result: bool | None) -> Ended:
        """How the process, which has ended, did so.

        Args:
          has_result: whether the run's result, which worker 0 writes last, is there; None: this is another worker.
        """
        code, errors = -1 if self._child.code is None else self._child.code, self._child.errors
        if code == ExitCode.DONE and has_result is False and self._decided is None:
            code, errors = os.EX_SOFTWARE, (*errors, _NO_RESULT)
        finished = has_result and rule(code).cause is not Cause.FATAL  # What came after the result changes nothing.
        return Ended(
            cause=Cause.DONE if finished else self._cause(code),
            attempt=self._attempt,
            code=code,
            step=self._status.step,
            errors=errors,
        )

    def _cause(self, code: int) -> Cause:
        """Why it ended with `code`."""
        by_itself = rule(code).cause
        if by_itself is Cause.DONE or self._decided is None:
            return by_itself
        # Stopped or not, it has found out what the others would, too; or it has lost a peer before.
        if self._decided is Cause.STOPPED and by_itself in (Cause.FATAL, Cause.PEER_LOST):
            return by_itself
        return self._decided

    def _show_stacks_and_kill(self, cause: Cause, why: str) -> None:
        """Lets a process that does not go on show where it stands; `check` kills it a moment later."""
        self._say(f"the training process is killed: {why}; the stacks of its threads:")
        self._child.show_stacks()
        self._decided, self._kill_at = cause, time.monotonic() + _STACKS_SECONDS
