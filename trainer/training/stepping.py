"""A chunk of steps, run: the first is compiled, and one that XLA refuses runs as plain TensorFlow."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainer.core import step_range
from trainer.core.config import Config
from trainer.core.exit_codes import UsageError
from trainer.training.explaining import explained
from trainer.training.hardware import xla
from trainer.training.hardware.profiling import Profile
from trainer.training.trainer import Outcome, Trainer


class Stepping:
    """Runs the chunks of one run."""

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
        self._trainer, self._flag = trainer, config.jit_compile
        self._begun = False  # Whether a step was taken.
        steps = config.epochs * trainer.steps_per_epoch
        self._profile = Profile(step_range.parse(config.profile_steps), run_dir, writes=chief, of=steps)

    def end(self, step: int, until: int) -> int:
        """Where a chunk from `step` is to end, at `until` at the latest: the same on all workers."""
        return self._profile.cut(step, until)

    def run(self, step: int, until: int, sums: Sequence[Any]) -> Outcome:
        """Takes the steps from `step` to `until`, or as far as examples were read ahead.

        Raises:
          UsageError: --jit_compile=true, and XLA cannot compile them; or the first of them cannot be run.
        """
        until = self._trainer.reach(step, until)
        with self.compiling("training steps"), self._profile.chunk(step, until):
            try:
                outcome = self._trainer.run(step, until, sums)
            except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError) as error:
                reason = xla.refusal(error)
                if not self._trainer.jit_compile or not reason:
                    if self._begun or "Collective ops is aborted" in str(error):
                        raise
                    with explained("the first step"):  # Started again, it would be the same.
                        raise
                if self._flag == "true":
                    raise UsageError(
                        f"XLA cannot compile this model ({reason}); leave --jit_compile=true out, and it runs as plain "
                        "TensorFlow"
                    ) from None
                print(f"XLA cannot compile this model ({reason}): it runs as plain TensorFlow", flush=True)
                self._trainer.without_xla()
                outcome = self._trainer.run(step, until, sums)
        self._begun = True
        return outcome

    def compiling(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Says so when what runs in here is compiled for the first time."""
        return xla.first_call(what, jit_compile=self._trainer.jit_compile)
