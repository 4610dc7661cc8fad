"""Random numbers as functions of what they are for: a resumed run draws what it would have drawn.

Keras' random layers draw from a seed generator: two whole numbers, of which the second counts the draws. Here the first
is made of layer and step, and the second begins with the replica's number, so layer, step, replica and draw each make
another pair. An example's own seed is made of epoch and row, whatever the number of workers.
"""

from typing import Any

import numpy as np
import tensorflow as tf

# Keras brings seeds into the range of an int32 by this remainder.
_RANGE = 2**31 - 2
_DRAWS = 2**18  # The most that a layer may make in one step, in each replica.
_VALIDATION = 2**30  # From here on the second number is a batch's of validation; below, a replica's.
_DRAWS_OF_VALIDATION = 2**10  # The most that a layer may make in one batch of it.


def layer_bases(seed: int, layers: int) -> list[int]:
    """The first number of each seed generator at step 0: as far apart as can be, so that no step reaches another's."""
    first = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
    return [(first + layer * (_RANGE // max(layers, 1))) % _RANGE for layer in range(layers)]


def layer_seeds(bases: list[int], step: tf.Tensor, replica: int) -> list[tf.Tensor]:
    """What each seed generator holds when a replica begins a step: int64 [2] each."""
    return [tf.stack([tf.cast(step, tf.int64) + base, tf.constant(replica * _DRAWS, tf.int64)]) for base in bases]


def validation_seeds(bases: list[int], epoch: tf.Tensor, batch: tf.Tensor) -> list[tf.Tensor]:
    """What each seed generator holds when a batch of an epoch's validation begins, whoever evaluates it."""
    number = tf.math.floormod(batch, _VALIDATION // _DRAWS_OF_VALIDATION) * _DRAWS_OF_VALIDATION
    return [tf.stack([tf.cast(epoch, tf.int64) + base, _VALIDATION + number]) for base in bases]


def is_seed(variable: Any) -> bool:
    """Whether a variable is the state of a seed generator, which is set anew for each step."""
    return bool(variable.name == "seed_generator_state")


def epoch_seed(seed: int, epoch: int, *, training: bool) -> int:
    """The first half of the seeds of an epoch's examples."""
    return int(np.random.SeedSequence([seed, epoch, 2 if training else 3]).generate_state(1)[0] % _RANGE)


def row_seeds(epoch_seed: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """The seed of each example: int32 [rows, 2]."""
    second = tf.cast(tf.math.floormod(rows, _RANGE), tf.int32)
    return tf.stack([tf.fill(tf.shape(second), tf.cast(epoch_seed, tf.int32)), second], axis=1)
