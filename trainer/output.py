"""Where what a worker writes is brought to, besides its own disk."""

import pathlib
from typing import BinaryIO, Protocol


class Output(Protocol):
    """What an agent does with the run directory and the worker's log."""

    def begin(self, run_dir: pathlib.Path, *, worker: int) -> None:
        """Before the first attempt: refuses an output that cannot be used, and brings back what lies there.

        Args:
          run_dir: the run directory; only worker 0's is written to.
          worker: the index of this worker.

        Raises:
          UsageError: the output does not exist or is forbidden.
        """

    def attempt_log(self, attempt: int) -> BinaryIO | None:
        """The file that takes this worker's log of an attempt; None: nobody wants it."""

    def finish(self) -> None:
        """At the end: everything is there when it returns.

        Raises:
          OutputError: names what is missing.
        """


class LocalOutput:
    """The run directory is where it shall stay; the worker's log is what the agent prints."""

    def begin(self, run_dir: pathlib.Path, *, worker: int) -> None:
        """Nothing lies elsewhere."""

    def attempt_log(self, attempt: int) -> None:
        """Nobody wants it."""

    def finish(self) -> None:
        """All is there."""


def newest_checkpoint(run_dir: pathlib.Path) -> int:
    """The step of the newest checkpoint in a run directory; 0: there is none."""
    steps = [int(path.stem.removeprefix("step-")) for path in run_dir.glob("checkpoints/step-*.npz")]
    return max(steps, default=0)
