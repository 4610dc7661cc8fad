"""`--profile_steps`: TensorBoard's profile of some steps, written by the chief beside the event files of training."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from absl import logging

from trainer.core.exit_codes import UsageError
from trainer.core.run_dir import PROFILES, UNFINISHED_PROFILE


class Profile:
    """Starts and stops the profiler at two steps. Chunks end there, on all workers alike, which changes no result."""

    def __init__(self, steps: range | None, run_dir: Path, *, writes: bool, of: int) -> None:
        """Nothing is profiled yet.

        Args:
          steps: those that are to be profiled; None: none.
          run_dir: the run directory.
          writes: whether this worker writes it: the chief does.
          of: the steps of the whole run.

        Raises:
          UsageError: the run has no such steps.
        """
        if steps and steps.stop > of:
            raise UsageError(
                f"--profile_steps={steps.start}:{steps.stop} ends after the last step of the run, {of}; name earlier "
                "ones"
            )
        self._steps, self._writes = steps or range(0), writes
        self._part, self._place = run_dir / UNFINISHED_PROFILE, run_dir / PROFILES
        self._runs = False
        self._from: int | None = None  # Where this start's steps, or those that it profiles, begin.

    def cut(self, step: int, until: int) -> int:
        """The end of a chunk that begins at `step`, so that none reaches over a boundary of the profile."""
        boundaries = (self._steps.start, self._steps.stop) if self._steps else ()
        return min([until, *(boundary for boundary in boundaries if step < boundary)])

    @contextlib.contextmanager
    def chunk(self, step: int, until: int) -> Iterator[None]:
        """Runs a chunk from `step` to `until`, and the profiler with it if its steps are those that are profiled."""
        if not self._writes or step not in self._steps:
            if self._from is None and self._writes and self._steps and step >= self._steps.stop:
                self._say_passed(step)
            self._from = step
            yield
            return
        if not self._runs:
            self._start(step)
        with tf.profiler.experimental.Trace("train", step_num=until, _r=1) if self._runs else contextlib.nullcontext():
            yield
        if self._runs and until >= self._steps.stop:
            self._finish()

    def _say_passed(self, step: int) -> None:
        if not self._place.exists():  # Else an attempt before this one has written it.
            print(
                f"no profile: --profile_steps={self._steps.start}:{self._steps.stop} are before step {step}, where "
                "this start goes on",
                flush=True,
            )

    def _start(self, step: int) -> None:
        self._from = step
        shutil.rmtree(self._part, ignore_errors=True)  # Of an attempt that was killed meanwhile.
        try:
            tf.profiler.experimental.start(str(self._part))
        except (tf.errors.OpError, OSError) as error:
            logging.warning("the steps are not profiled: the profiler cannot be started: %s", error)
            self._writes = False
            return
        self._runs = True

    def _finish(self) -> None:
        self._runs = False
        try:
            tf.profiler.experimental.stop()
            for folder in (self._part / "plugins" / "profile").iterdir():
                self._place.mkdir(parents=True, exist_ok=True)
                folder.replace(self._place / folder.name)  # Whole files alone are copied to an output.
                print(f"profiled steps {self._from} to {self._steps.stop}: {self._place / folder.name}", flush=True)
        except (tf.errors.OpError, OSError) as error:
            logging.warning("the profile of the steps could not be written: %s", error)
        shutil.rmtree(self._part, ignore_errors=True)
