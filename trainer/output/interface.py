"""Where what a worker writes is brought to, besides its own disk."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Protocol

from trainer.core.run_dir import highest_attempt_on_disk
from trainer.core.settings import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """The flags that say where a run is mirrored to, and how."""

    output: str = setting(
        "", "gs://bucket/path or s3://bucket/path, below which the run directory is mirrored under its own name"
    )
    mirror_interval: float = setting(5.0, "seconds between two looks at what was written", above=0.0)
    mirror_max_disk: int = setting(
        256, "MiB of disk that a worker's logs may take; with an output, those that it does not have yet", minimum=1
    )
    mirror_final_timeout: float = setting(
        300.0, "seconds to wait for an output that is away, before the run and at its end", minimum=0.0
    )


class Output(Protocol):
    """What an agent does with the run directory, in which the worker's log lies, too."""

    def begin(self) -> int:
        """Before the first attempt: refuses an output that cannot be used, and brings back what lies there.

        Returns:
          The highest number of an attempt that has left something there; 0: none has.

        Raises:
          UsageError: the output does not exist or is forbidden.
          OutputError: it did not answer in time.
          DataError: what lies there is not this run's, or is damaged.
        """

    def finish(self, *, timeout: float | None = None) -> None:
        """At the end: everything is there when it returns, however long that takes while it gets on.

        Args:
          timeout: seconds to wait for an output that is away; None: as long as the flags say.

        Raises:
          OutputError: names what is missing.
        """

    def missing(self) -> list[str]:
        """What is not there, for a person; any thread may ask, while `finish` is at work, too."""


class LocalOutput:
    """The run directory is where it shall stay."""

    def __init__(self, run_dir: pathlib.Path) -> None:
        """Takes the run directory."""
        self._run_dir = run_dir

    def begin(self) -> int:
        """Nothing lies elsewhere."""
        return highest_attempt_on_disk(self._run_dir)

    def finish(self, *, timeout: float | None = None) -> None:
        """All is there."""

    def missing(self) -> list[str]:
        """Nothing."""
        return []


def open_output(
    settings: OutputSettings,
    run_dir: pathlib.Path,
    *,
    worker: int,
    say: Callable[[str], None],
    warn: Callable[[str], None],
    on_end: Callable[[Exception], None],
) -> Output:
    """Makes the output that the flags ask for; nothing is asked of it yet.

    Args:
      settings: the flags.
      run_dir: the run directory; its name is the run's below the output.
      worker: this worker's index.
      say: takes a sentence for a person.
      warn: takes one about the worker's log, which for that reason must not go there.
      on_end: called, in another thread, when the output cannot be used any more by this agent.

    Raises:
      UsageError: the address is none.
    """
    if not settings.output:
        return LocalOutput(run_dir)
    # The clients are large: a worker without an output has no use for them.
    from trainer.output.mirror import Mirror
    from trainer.output.stores.opening import open_store

    return Mirror(
        open_store(f"{settings.output.rstrip('/')}/{run_dir.resolve().name}"),
        run_dir,
        worker=worker,
        interval=settings.mirror_interval,
        final_timeout=settings.mirror_final_timeout,
        say=say,
        warn=warn,
        on_end=on_end,
    )
