"""The output of a run: where the agent brings what a worker writes to its disk."""

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
    """What an agent asks of an output. The run directory on disk holds the worker's log, too."""

    def begin(self) -> int:
        """Before the first attempt: refuses an output that cannot be used, and brings back what the disk lacks.

        Returns:
          The highest number of an attempt that has left a log; 0: none has.

        Raises:
          UsageError: the output does not exist or is forbidden.
          OutputError: it did not answer in time.
          DataError: what lies there is not this run's, or is damaged.
        """

    def finish(self, *, timeout: float | None = None) -> None:
        """At the end: everything is in the output when it returns, however long that takes while it gets on.

        Args:
          timeout: seconds to wait for an output that is away; None: as long as the flags say.

        Raises:
          OutputError: names what is missing.
        """

    def missing(self) -> list[str]:
        """What the output lacks, for a person; any thread may ask, also while `finish` is at work."""


class LocalOutput:
    """No output: everything stays in the run directory."""

    def __init__(self, run_dir: pathlib.Path) -> None:
        self._run_dir = run_dir

    def begin(self) -> int:
        """The highest number of an attempt that has left a log on the disk."""
        return highest_attempt_on_disk(self._run_dir)

    def finish(self, *, timeout: float | None = None) -> None:
        """Returns at once: there is nothing to bring anywhere."""

    def missing(self) -> list[str]:
        """An empty list: nothing is to be anywhere else."""
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
    """Opens the output that the flags name; nothing is asked of it yet.

    Args:
      settings: the flags.
      run_dir: the run directory; its name is the run's below the output.
      worker: this worker's index.
      say: takes a sentence for a person.
      warn: takes one about the worker's log, which for that reason must not go there.
      on_end: called, in another thread, when the output cannot be used any more by this agent.

    Raises:
      UsageError: `settings.output` is no address of an object store.
    """
    if not settings.output:
        return LocalOutput(run_dir)
    # The stores' clients are large, and a worker without an output does not need them.
    from trainer.output.mirror.mirror import Mirror
    from trainer.output.stores.opening import open_store

    return Mirror(
        open_store(settings.output, run=run_dir.resolve().name),
        run_dir,
        worker=worker,
        interval=settings.mirror_interval,
        final_timeout=settings.mirror_final_timeout,
        say=say,
        warn=warn,
        on_end=on_end,
    )
