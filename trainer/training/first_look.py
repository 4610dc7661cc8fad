"""The first batch, seen before the first step: it builds the model and its losses, and shows what cannot be.

Whatever does not fit together is said here, on every worker alike, before anything is trained.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.core.config import Config
from trainer.core.exit_codes import UsageError
from trainer.training import random_state
from trainer.training.arrays import Arrays, Nest
from trainer.training.compilation import check_labels, compile_by_flags, explained
from trainer.training.experiment import Preprocess
from trainer.training.preparation import prepare

_EXAMPLES = 48  # At most: enough to see how losses and metrics of a batch follow from those of its parts.


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstLook:
    """Some examples as the model takes them, and what it gives for them before it is trained."""

    x: Nest
    y: Nest
    weight: Nest
    outputs: Nest
    synchronized: bool  # Whether a layer of the model asks the other replicas in its forward pass.
    independent: bool  # Whether an example's loss depends on nothing else in its batch.

    @property
    def examples(self) -> int:
        """How many."""
        return int(keras.tree.flatten(self.x)[0].shape[0])


def build(model: Any, strategy: tf.distribute.Strategy, train: Arrays, preprocess: Preprocess | None) -> None:
    """Makes the variables of a model that is not built yet, from the shapes of the data.

    Raises:
      UsageError: the model cannot take them.
    """
    if model.built and model.variables:
        return
    x, _, _ = _head(train, preprocess, 1)
    with explained(f"building the model {model.name}", x), strategy.scope():
        call(model, x, training=False)


def look(
    model: Any, config: Config, train: Arrays, validation: Arrays | None, preprocess: Preprocess | None
) -> tuple[FirstLook, bool]:
    """Runs the model on the first examples; compiles it by the flags if its user has not; builds losses and metrics.

    Returns:
      What was seen, and whether the flags have compiled the model.

    Raises:
      UsageError: model, data, losses and metrics do not fit each other.
      DataError: labels are outside of the model's classes.
    """
    examples = min(train.examples, max(2, min(config.global_batch_size, _EXAMPLES)))
    x, y, weight = _head(train, preprocess, examples)
    with explained(f"the model {model.name}", x):
        outputs = call(model, x, training=False)
    by_flags = not model.compiled
    if by_flags:
        compile_by_flags(model, config, y, outputs)
    if not model.trainable_variables:
        raise UsageError("the model has no weights that are trained; set trainable=True for some of its layers")
    _check_size(y, outputs)
    with explained("the loss and the metrics that the model is compiled with", x):
        model._compute_loss(x, y, outputs, weight, training=False)
        model.compute_metrics(x, y, outputs, weight)
    model.reset_metrics()
    for split in (train, validation):
        if split is not None and preprocess is None:
            check_labels(model, split.y, outputs)
    if preprocess is not None:
        check_labels(model, keras.tree.map_structure(lambda leaf: leaf.numpy(), y) if y is not None else None, outputs)
        for split in (train, validation):  # Where it leaves the labels alone, all of them can be looked at.
            if split is not None and y is not None and _is_same(y, split.head(examples)[1]) and split is train:
                check_labels(model, split.y, outputs)
    synchronized = any(getattr(layer, "synchronized", False) for layer in model._flatten_layers())
    independent = _is_independent(model, outputs, weight)
    seen = FirstLook(x=x, y=y, weight=weight, outputs=outputs, synchronized=synchronized, independent=independent)
    return seen, by_flags


def call(model: Any, x: Nest, *, training: bool) -> Nest:
    """A model's outputs, as Keras' own steps call it."""
    return model(x, training=training) if model._call_has_training_arg else model(x)


def _head(train: Arrays, preprocess: Preprocess | None, examples: int) -> tuple[Nest, Nest, Nest]:
    x, y, weight = train.head(examples)
    seeds = random_state.row_seeds(tf.constant(0, tf.int64), tf.range(examples, dtype=tf.int64))
    with explained("preprocess", x):
        x, y = prepare(preprocess, x, y, seeds, training=False)
    return x, y, weight


def _check_size(y: Nest, outputs: Nest) -> None:
    for leaf in keras.tree.flatten(outputs):
        if not tf.is_tensor(leaf):
            raise UsageError(f"the model gives a {type(leaf).__name__}; expected tensors")
    if y is None:
        return
    examples = int(keras.tree.flatten(y)[0].shape[0])
    for leaf in keras.tree.flatten(outputs):
        if leaf.shape.rank == 0 or leaf.shape[0] != examples:
            raise UsageError(
                f"the model gives {leaf.shape} for {examples} examples; the first dimension must count the examples"
            )


def _is_independent(model: Any, outputs: Nest, weight: Nest) -> bool:
    compiled = model._compile_loss
    if compiled is None or type(model).compute_loss is not keras.Model.compute_loss:
        return False
    if any(getattr(leaf, "_keras_mask", None) is not None for leaf in keras.tree.flatten(outputs)):
        return False
    if compiled.metrics:  # With several losses each batch counts as one, however large.
        return False
    if any(layer._get_own_losses() for layer in model._flatten_layers()):  # What add_loss has added.
        return False
    return all(_is_mean_of_keras(part.loss, weighted=weight is not None) for part in compiled._flat_losses)


def _is_mean_of_keras(loss: Any, *, weighted: bool) -> bool:
    means = ("sum_over_batch_size", "mean") if weighted else ("sum_over_batch_size", "mean", "mean_with_sample_weight")
    function = getattr(loss, "fn", type(loss))
    return loss.reduction in means and function.__module__.startswith(("keras.", "trainer."))


def _is_same(one: Nest, other: Nest) -> bool:
    pairs: Sequence[tuple[Any, Any]] = list(zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=False))
    return all(
        left.shape == right.shape and left.dtype == right.dtype and bool(tf.reduce_all(left == right))
        for left, right in pairs
    )
