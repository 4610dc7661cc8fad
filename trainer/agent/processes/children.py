"""The processes of an agent, held by its main thread: the training process, the warm spare, TensorBoard."""

import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from trainer.agent.processes.child import Child

_LONGEST_VARIABLE = 2**16  # Bytes; the kernel takes at most twice as many in one variable of an environment.
_PAUSE = 10.0  # Seconds before a spare or a TensorBoard that ended by itself is started again.


class Children:
    """Starts the processes of an agent and reaps them."""

    def __init__(
        self,
        program: Sequence[str],
        environ: Mapping[str, str],
        *,
        on_line: Callable[[bytes, bool], None],
        say: Callable[[str], None],
    ) -> None:
        """Makes it; no process is started yet.

        Args:
          program: the command that the training flags are given to.
          environ: their environment.
          on_line: called with each line of a training process, in a thread of its own.
          say: takes a sentence for a person.
        """
        self._program, self._environ, self._on_line, self._say = tuple(program), dict(environ), on_line, say
        self._training: Child | None = None
        self._spare: Child | None = None
        self._tensorboard: Child | None = None
        self._tensorboard_problem = ""  # What was said last of it.
        self._spare_due = self._tensorboard_due = 0.0

    @property
    def spare(self) -> str:
        """How far the warm spare is, as the state line says it."""
        if self._spare is None:
            return "none"
        self._spare.silent_seconds()  # It reads the beats.
        return "ready" if self._spare.awake else "waking"

    def start(self, environ: Mapping[str, str], argv: Sequence[str]) -> tuple[Child, str]:
        """Makes the warm spare the training process, or starts a new one.

        Args:
          environ: what its environment has besides this one's.
          argv: the training flags.

        Returns:
          The process, and in words which of the two it is.

        Raises:
          OSError: this machine gives no more processes, files or threads now.
        """
        spare, self._spare = self._spare, None
        if spare and spare.code is None and spare.hand_over(environ, argv):
            self._training = spare
            return spare, "a warm spare" if spare.awake else "a spare that is still waking"
        if any(len(value) > _LONGEST_VARIABLE for value in environ.values()):  # The TF_CONFIG of thousands.
            self._training = Child(self._program, self._environ, spare=True, on_line=self._on_line)
            self._training.hand_over(environ, argv)
        else:
            command = (*self._program, *argv)
            self._training = Child(command, {**self._environ, **environ}, spare=False, on_line=self._on_line)
        return self._training, "a new process"

    def keep_spare(self) -> None:
        """Starts a spare if there is none."""
        if self._spare is None and time.monotonic() >= self._spare_due:
            try:
                self._spare = Child(self._program, self._environ, spare=True, on_line=self._on_line)
            except OSError:  # Training goes on without one.
                self._spare_due = time.monotonic() + _PAUSE

    def keep_tensorboard(self, logdir: pathlib.Path, port: int) -> None:
        """Starts TensorBoard if it does not run; of what it prints nothing is shown but the reason of its end."""
        if self._tensorboard is None and time.monotonic() >= self._tensorboard_due:
            options = ("--logdir", str(logdir), "--bind_all", "--port", str(port))
            command = (sys.executable, "-m", "trainer.board", *options)
            try:
                self._tensorboard = Child(command, self._environ, spare=False, on_line=lambda *_: None)
            except OSError as error:
                self._tensorboard_due = time.monotonic() + _PAUSE
                self._say_of_tensorboard(f"TensorBoard cannot be started: {error.strerror}")

    def reap(self) -> None:
        """Reaps all that has ended: this process may be process 1, to which orphans fall."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            self._reap(ended.si_pid)

    def _reap(self, pid: int) -> None:
        children = (self._training, self._spare, self._tensorboard)
        child = next((child for child in children if child and child.pid == pid), None)
        if child:
            child.kill()  # It takes along what the child has started; until it is reaped nobody else has its group.
        _, status = os.waitpid(pid, 0)
        if child:
            child.ended(status)
        if child and child is self._spare:
            self._spare, self._spare_due = None, time.monotonic() + _PAUSE
        if child and child is self._tensorboard:
            self._tensorboard, self._tensorboard_due = None, time.monotonic() + _PAUSE
            self._say_of_tensorboard(": ".join((f"TensorBoard has ended with {child.code}", *child.errors[-1:])))

    def _say_of_tensorboard(self, problem: str) -> None:
        if problem != self._tensorboard_problem:
            self._tensorboard_problem = problem
            self._say(f"warning: {problem}; it is started again every {_PAUSE:g} s")
