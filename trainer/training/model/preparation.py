"""An experiment's `preprocess`, applied to whole batches: it is written for one example."""

from typing import Any

import keras
import tensorflow as tf

from trainer.core.exit_codes import UsageError
from trainer.training.model.experiment import Preprocess
from trainer.training.nests import Nest


def prepare(preprocess: Preprocess | None, x: Nest, y: Nest, seeds: tf.Tensor, *, training: bool) -> tuple[Nest, Nest]:
    """A batch as the model takes it.

    Args:
      preprocess: the experiment's, or None.
      x: inputs of the batch.
      y: labels, or None.
      seeds: of each example, int32 [batch, 2].
      training: whether the batch is trained on.

    Raises:
      UsageError: it does not return a pair.
    """
    if preprocess is None:
        return x, y

    def one(example: Any) -> Any:
        prepared = preprocess(example["x"], example.get("y"), example["seed"], training)
        if not isinstance(prepared, tuple | list) or len(prepared) != 2:
            raise UsageError(
                f"preprocess returned {type(prepared).__name__}; expected a pair (x, y) for each example, y None where "
                "there are no labels"
            )
        return {"x": prepared[0]} if prepared[1] is None else {"x": prepared[0], "y": prepared[1]}

    examples = {"x": x, "seed": seeds} | ({} if y is None else {"y": y})
    prepared = tf.vectorized_map(one, examples, warn=False)
    count = seeds.shape[0]
    prepared = keras.tree.map_structure(lambda leaf: tf.ensure_shape(leaf, [count, *leaf.shape[1:]]), prepared)
    return prepared["x"], prepared.get("y")
