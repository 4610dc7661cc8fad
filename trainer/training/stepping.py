"""Chunks of steps, and of an evaluation, run: the first are compiled, and what goes wrong in a step is explained."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainer.core import agent_link, step_range
from trainer.core.config import Config
from trainer.training.chunks import ChunkLength
from trainer.training.evaluation import Evaluation
from trainer.training.explaining import explained
from trainer.training.hardware.compiling import EVALUATION, STEPS, Compiling
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

    @property
    def xla(self) -> bool | None:
        """Whether XLA compiles the steps; where none was taken yet, whether it had compiled the checkpoint's."""
        return self._trainer.jit_compile if self.begun else self._before

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

    def evaluate(self, epoch: int, agree: Callable[[bool], bool | None]) -> dict[str, float] | None:
        """The loss and the metrics over the validation split after an epoch (from 0); nothing without one.

        Args and errors: see `measured`, which may leave off with None.
        """
        evaluation = self._trainer.evaluation
        if evaluation is None:
            return {}
        compiling, chunk = self._compiling, ChunkLength(fixed=self._fixed)
        # The steps before it were made without XLA, which may have refused them: then it was left out here, too.
        plain = not self.begun and self._before is False and evaluation.jit_compile
        if plain:
            evaluation.without_xla()
            compiling = Compiling("false")
        values = measured(evaluation, epoch, compiling=compiling, chunk=chunk, agree=agree)
        if plain:
            evaluation.with_xla()
        return values

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


def measured(
    evaluation: Evaluation,
    epoch: int,
    *,
    compiling: Compiling,
    chunk: ChunkLength,
    agree: Callable[[bool], bool | None],
) -> dict[str, float] | None:
    """Passes over the validation split, chunk by chunk: of each worker as its own clock and its data allow.

    So a wish to stop is soon heard, and the agent sees that it goes on.

    Args:
      evaluation: the compiled pass.
      epoch: after which it is, from 0.
      compiling: calls what is compiled.
      chunk: the length of a new pass's chunks.
      agree: asked after each: takes whether this worker has more to do, and returns whether any has; None to leave off.

    Returns:
      The loss and the metrics, by name; None when it was left off, and then nothing has changed.

    Raises:
      UsageError: --jit_compile=true, and XLA cannot compile it.
    """
    compiling.call(EVALUATION, lambda: evaluation.begin(epoch), evaluation)
    while more := agree(evaluation.more):
        agent_link.moved()  # Who has no more waits for the others, as long as they go on.
        began = time.monotonic()
        if made := evaluation.advance(chunk.steps):
            chunk.took(made, time.monotonic() - began)
    if more is None:
        evaluation.abandon()
        return None
    return evaluation.values()
