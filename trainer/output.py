"""Where what a worker writes is brought to, besides its own disk."""

import dataclasses
import pathlib
import sys
from collections.abc import Callable
from typing import Protocol

from trainer.run_files import CHECKPOINTS
from trainer.settings import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """The flags that say where a run is mirrored to, and how."""

    output: str = setting(
        "", "gs://bucket/path or s3://bucket/path, below which the run directory is mirrored under its own name"
    )
    mirror_interval: float = setting(5.0, "seconds between two looks at what was written", above=0.0)
    mirror_max_disk: int = setting(
        256, "MiB of disk that a worker's log may take while it waits for the output; the rest needs no copy", minimum=1
    )
    mirror_final_timeout: float = setting(
        300.0, "seconds to wait for an output that is away, before the run and at its end", minimum=0.0
    )


class LogFile(Protocol):
    """What takes whole lines of a log."""

    def write(self, line: bytes, /) -> int | None:
        """Adds a line."""

    def flush(self) -> None:
        """Brings it to the disk."""

    def close(self) -> None:
        """Ends the log."""


class Output(Protocol):
    """What an agent does with the run directory and the worker's log."""

    def begin(self) -> int:
        """Before the first attempt: refuses an output that cannot be used, and brings back what lies there.

        Returns:
          The highest number of an attempt that has left something there; 0: none has.

        Raises:
          UsageError: the output does not exist or is forbidden.
          OutputError: it did not answer in time.
          DataError: what lies there is not this run's, or is damaged.
        """

    def attempt_log(self, attempt: int) -> LogFile | None:
        """The file that takes this worker's log of an attempt; None: nobody wants it."""

    def finish(self, *, timeout: float | None = None) -> None:
        """At the end: everything is there when it returns.

        Args:
          timeout: seconds to wait for an output that is away; None: as long as the flags say.

        Raises:
          OutputError: names what is missing.
        """


class LocalOutput:
    """The run directory is where it shall stay; the worker's log is what the agent prints."""

    def begin(self) -> int:
        """Nothing lies elsewhere."""
        return 0

    def attempt_log(self, attempt: int) -> None:
        """Nobody wants it."""

    def finish(self, *, timeout: float | None = None) -> None:
        """All is there."""


def open_output(
    settings: OutputSettings,
    run_dir: pathlib.Path,
    *,
    worker: int,
    say: Callable[[str], None],
    on_end: Callable[[Exception], None],
) -> Output:
    """Makes the output that the flags ask for; nothing is asked of it yet.

    Args:
      settings: the flags.
      run_dir: the run directory; its name is the run's below the output.
      worker: this worker's index.
      say: takes a sentence for a person.
      on_end: called, in another thread, when the output cannot be used any more by this agent.

    Raises:
      UsageError: the address is none.
    """
    if not settings.output:
        return LocalOutput()
    # The clients are large: a worker without an output has no use for them.
    from trainer.mirror import Mirror
    from trainer.storage import open_store

    return Mirror(
        open_store(f"{settings.output.rstrip('/')}/{run_dir.resolve().name}"),
        run_dir,
        worker=worker,
        interval=settings.mirror_interval,
        max_disk=settings.mirror_max_disk * 2**20,
        final_timeout=settings.mirror_final_timeout,
        say=say,
        warn=lambda text: print(f"warning: {text}", file=sys.stderr, flush=True),
        on_end=on_end,
    )


def newest_checkpoint(run_dir: pathlib.Path) -> int:
    """The step of the newest checkpoint in a run directory; 0: there is none."""
    steps = [int(path.stem.removeprefix("step-")) for path in (run_dir / CHECKPOINTS).glob("step-*.npz")]
    return max(steps, default=0)
