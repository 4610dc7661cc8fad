"""Examples of a split as the model takes them in validation, and how many of them at once."""

import tensorflow as tf

from trainer.training.data import random_state
from trainer.training.data.feeding import Split
from trainer.training.explaining import explained
from trainer.training.model.experiment import Preprocess
from trainer.training.model.preparation import prepare
from trainer.training.nests import Nest

_AT_ONCE = 1000
_AT_ONCE_BYTES = 2**22  # Large examples are taken in smaller batches.


def at_once(size: int) -> int:
    """How many examples of so many bytes are computed with at once, where nothing but speed depends on it."""
    return max(1, min(_AT_ONCE, _AT_ONCE_BYTES // max(size, 1)))


def first_inputs(split: Split, preprocess: Preprocess | None, seed: int, count: int) -> Nest:
    """The first examples' inputs, at most `count`.

    Args:
      split: where they are taken from.
      preprocess: the experiment's, or None.
      seed: the run's.
      count: how many.

    Raises:
      UsageError: preprocess cannot take them.
    """
    end = min(count, split.examples)
    raw, y, _ = split.rows(0, end)
    with explained("preprocess", raw):
        return prepared(preprocess, seed, raw, y, tf.range(end, dtype=tf.int64))[0]


def prepared(preprocess: Preprocess | None, seed: int, raw: Nest, y: Nest, rows: tf.Tensor) -> tuple[Nest, Nest]:
    """Inputs and labels after preprocess, in every pass over the validation split; `rows` are their numbers."""
    epoch = tf.constant(random_state.epoch_seed(seed, 0, training=False), tf.int64)
    return prepare(preprocess, raw, y, random_state.row_seeds(epoch, rows), training=False)
