"""The learning rate over the steps of a whole run, as the flags say it: `--learning_rate_schedule`, `--warmup_steps`.

They are Keras' own schedules, functions of the optimizer's count of steps, which is in each checkpoint: neither a
resume nor the number of workers changes where a run stands in them.
"""

import math
from typing import Any

import keras
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

from trainer.core.config import Config
from trainer.core.exit_codes import UsageError

_DROPS = (1 / 2, 3 / 4)  # Where --learning_rate_schedule=step goes down to a tenth, of the steps after the warm-up.


class Warmup(LearningRateSchedule):  # type: ignore[misc]
    """Rises in equal parts, the first step's being one of them, and then follows another schedule from its start."""

    def __init__(self, then: Any, steps: int) -> None:
        """Takes a schedule or a rate, and how many steps the rise takes."""
        self.then, self.steps = then, steps

    def __call__(self, step: Any) -> tf.Tensor:
        """The rate of a step, from 0."""
        step = tf.cast(step, tf.float32)
        then = (
            self.then(tf.maximum(step - self.steps, 0.0)) if isinstance(self.then, LearningRateSchedule) else self.then
        )
        return tf.minimum((step + 1.0) / self.steps, 1.0) * then

    def get_config(self) -> dict[str, Any]:
        """What Keras makes another from."""
        return {"then": self.then, "steps": self.steps}


def schedule(config: Config, steps: int) -> Any:
    """The learning rate of a model that the flags compile: a number, or a schedule of Keras' over the run's `steps`.

    Raises:
      UsageError: the warm-up is longer than the run.
    """
    rate, warmup, kind = config.learning_rate, config.warmup_steps, config.learning_rate_schedule
    left = steps - warmup
    if left < 1:
        raise UsageError(
            f"--warmup_steps={warmup} leaves nothing of the run's {steps} steps; take fewer, or more --epochs"
        )
    schedules = keras.optimizers.schedules
    then: Any = rate
    if kind == "cosine":
        then = schedules.CosineDecay(rate, left)
    elif kind == "linear":
        then = schedules.PolynomialDecay(rate, left, end_learning_rate=0.0)
    elif kind == "step":
        last = [float(math.ceil(left * share) - 1) for share in _DROPS]  # The last step before each.
        then = schedules.PiecewiseConstantDecay(last, [rate, rate / 10, rate / 100])
    return Warmup(then, warmup) if warmup else then


def described(config: Config, steps: int) -> str:
    """The schedule as a part of a run's identity: what a resume may not change."""
    warmup = f", --warmup_steps={config.warmup_steps}" if config.warmup_steps else ""
    over = "" if config.learning_rate_schedule == "constant" else f" over {steps} steps"
    return f"{config.learning_rate_schedule}{over}{warmup}"
