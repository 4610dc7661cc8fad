"""A chunk of steps, run: the first is compiled, and what goes wrong in it is explained."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainer.core import step_range
from trainer.core.config import Config
from trainer.training.chunks import ChunkLength
from trainer.training.evaluation import measured
from trainer.training.explaining import explained
from trainer.training.hardware.compiling import STEPS, Compiling
from trainer.training.hardware.profiling import Profile
from trainer.training.trainer import Outcome, Trainer


class Stepping:
    """Runs the chunks of one run, and its evaluations."""

    def __init__(self, trainer: Trainer, config: Config, run_dir: Path, *, chief: bool) -> None:
        """Nothing runs yet.

        Args:
          trainer: the compiled steps.
          config: the flags.
          run_dir: the run directory, which the chief's profile goes to.
          chief: whether this worker is it.

        Raises:
          UsageError: --profile_steps names steps that the run does not have.
        """
        self._trainer, self._compiling = trainer, Compiling(config.jit_compile)
        self._fixed = config.chunk_steps
        self.begun = False  # Whether a step was taken.
        self._before: bool | None = None  # Whether XLA had compiled those of the checkpoint.
        steps = config.epochs * trainer.steps_per_epoch
        self._profile = Profile(step_range.parse(config.profile_steps), run_dir, writes=chief, of=steps)

    def go_on(self, *, xla: bool | None) -> None:
        """The steps go on from a checkpoint, whose own were compiled by XLA or not; None: it does not say."""
        self._before = xla

    def end(self, step: int, until: int) -> int:
        """Where a chunk from `step` is to end, at `until` at the latest: the same on all workers."""
        return self._profile.cut(step, until)

    def run(self, step: int, until: int, sums: Sequence[Any]) -> Outcome:
        """Takes the steps from `step` to `until`, or as far as examples were read ahead.

        Raises:
          UsageError: --jit_compile=true, and XLA cannot compile them; or the first of them cannot be run.
        """
        trainer = self._trainer
        until = trainer.reach(step, until)
        with self._profile.chunk(step, until), self._first_explained():
            outcome = self._compiling.call(STEPS, lambda: trainer.run(step, until, sums), trainer)
        if not self.begun and self._before not in (None, trainer.jit_compile):
            print(
                f"the checkpoint's steps were made {'with' if self._before else 'without'} XLA, these are not: they "
                "draw other random numbers, and round otherwise",
                flush=True,
            )
        self.begun = True
        return outcome

    def evaluate(self, epoch: int, agree: Callable[[int], int]) -> dict[str, float] | None:
        """The loss and the metrics over the validation split after an epoch (from 0); nothing without one.

        Args and errors: see `evaluation.measured`, which may leave off with None.
        """
        if self._trainer.evaluation is None:
            return {}
        chunk = ChunkLength(fixed=self._fixed)
        return measured(self._trainer.evaluation, epoch, compiling=self._compiling, chunk=chunk, agree=agree)

    @contextlib.contextmanager
    def _first_explained(self) -> Iterator[None]:
        """What goes wrong in the first step would go wrong again."""
        if self.begun:
            yield
            return
        try:
            yield
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError) as error:
            if "Collective ops is aborted" in str(error):
                raise
            with explained("the first step"):
                raise
