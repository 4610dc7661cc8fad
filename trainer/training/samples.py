"""Some examples of a split as the model takes them, for what is shown or compared and never trained on."""

import dataclasses

import tensorflow as tf

from trainer.training import random_state
from trainer.training.arrays import Nest
from trainer.training.experiment import Preprocess
from trainer.training.explaining import explained
from trainer.training.feeding import Split
from trainer.training.preparation import prepare


@dataclasses.dataclass(frozen=True)
class Samples:
    """A row of examples, in the split's order."""

    raw: Nest  # Inputs as `load_data` gave them.
    x: Nest  # As the model takes them: after preprocess, which made nothing random of them.
    y: Nest


def samples(split: Split, preprocess: Preprocess | None, seed: int, begin: int, end: int) -> Samples:
    """Examples `begin` to `end` of a split.

    Args:
      split: where they are taken from.
      preprocess: the experiment's, or None.
      seed: the run's.
      begin: the first.
      end: the one behind the last.

    Raises:
      UsageError: preprocess cannot take them.
    """
    raw, y, _ = split.rows(begin, end)
    with explained("preprocess", raw):
        x, y = prepared(preprocess, seed, raw, y, tf.range(begin, end, dtype=tf.int64))
    return Samples(raw, x, y)


def prepared(preprocess: Preprocess | None, seed: int, raw: Nest, y: Nest, rows: tf.Tensor) -> tuple[Nest, Nest]:
    """Inputs and labels after preprocess, as a pass over the validation split has them; `rows` are their numbers."""
    epoch = tf.constant(random_state.epoch_seed(seed, 0, training=False), tf.int64)
    return prepare(preprocess, raw, y, random_state.row_seeds(epoch, rows), training=False)
