"""What is minimised and what is counted, example by example."""

from typing import Any

import keras
import tensorflow as tf


def losses(name: str, labels: tf.Tensor, outputs: tf.Tensor, *, from_logits: bool) -> tf.Tensor:
    """The loss of each example.

    Args:
      name: `crossentropy`, or `quadratic`: half the sum of the squares of output minus one-hot label.
      labels: int32 [batch].
      outputs: float32 [batch, classes].
      from_logits: whether `outputs` are logits; used by `crossentropy`.

    Returns:
      float32 [batch].
    """
    if name == "quadratic":
        return 0.5 * tf.reduce_sum(tf.square(outputs - tf.one_hot(labels, outputs.shape[-1])), axis=-1)
    return keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=from_logits)


def hits(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """How many examples have their greatest output at their label: float32 scalar."""
    return tf.reduce_sum(tf.cast(tf.equal(tf.argmax(outputs, -1, output_type=tf.int32), labels), tf.float32))


def gives_logits(model: Any) -> bool:
    """Whether a model's last layer gives logits: it has neither a softmax nor a sigmoid."""
    last = model.layers[-1]
    if isinstance(last, keras.layers.Softmax):
        return False
    return getattr(last, "activation", None) not in (keras.activations.softmax, keras.activations.sigmoid)
