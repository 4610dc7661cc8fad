"""The first batch, seen before the first step: it builds the model and its losses, and shows what cannot be.

Whatever does not fit together is said here, on every worker alike, before anything is trained.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src import backend

from trainer.core.config import Config
from trainer.core.exit_codes import UsageError
from trainer.training.data import random_state
from trainer.training.data.arrays import Arrays
from trainer.training.data.feeding import Split
from trainer.training.data.source_split import SourceSplit
from trainer.training.explaining import explained
from trainer.training.model.compilation import LabelCheck, compile_by_flags, has_classes
from trainer.training.model.experiment import Preprocess
from trainer.training.model.preparation import prepare
from trainer.training.nests import Nest

_LABELS = 4096  # Looked at at once, where preprocess makes them.
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
    assigns: bool  # Whether the forward pass changes state where nothing is trained, too.
    classes: bool  # Whether a loss takes labels that are classes.

    @property
    def examples(self) -> int:
        """How many."""
        return int(keras.tree.flatten(self.x)[0].shape[0])

    @property
    def cut(self) -> int:
        """Where the two parts meet whose losses and metrics are held against those of the whole; they are uneven."""
        return max(1, self.examples // 3)


def build(model: Any, strategy: tf.distribute.Strategy, train: Split, preprocess: Preprocess | None) -> None:
    """Makes the variables of a model that is not built yet, from the shapes of the data.

    Raises:
      UsageError: the model cannot take them.
    """
    if all(layer.built for layer in model._flatten_layers()) and model.variables:
        return
    x, _, _ = _head(train, preprocess, 1)
    symbols = keras.tree.map_structure(lambda leaf: keras.KerasTensor(leaf.shape, leaf.dtype.name), x)
    with explained(f"building the model {model.name}", x), strategy.scope():
        # As Keras' fit does it: without numbers, which could move what a layer counts.
        backend.compute_output_spec(lambda x: call(model, x, training=False), symbols)


def look(
    model: Any,
    config: Config,
    train: Split,
    validation: Split | None,
    preprocess: Preprocess | None,
    steps_per_epoch: int,
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
    _check_keys(model, x)
    with explained(f"the model {model.name}", x), untouched(model) as scope:
        outputs = call(model, x, training=False)
        added = bool(scope.losses)
    changed = [scope.get_current_value(variable) for variable in model.non_trainable_variables]
    by_flags = not model.compiled
    if by_flags:
        compile_by_flags(model, config, y, outputs, config.epochs * steps_per_epoch)
    if not model.trainable_variables:
        raise UsageError("the model has no weights that are trained; set trainable=True for some of its layers")
    _check_size(y, outputs)
    _score(model, x, y, outputs, weight, "training")
    classes = has_classes(model)
    for split in (train, validation):
        if split is not None and classes:
            _check_all_labels(model, split, preprocess, outputs)
    if validation is not None:
        x_, y_, weight_ = _head(validation, preprocess, min(validation.examples, 2))
        with explained(f"the model {model.name} on the validation data", x_), untouched(model):
            outputs_ = call(model, x_, training=False)
        _score(model, x_, y_, outputs_, weight_, "validation")
    synchronized = any(getattr(layer, "synchronized", False) for layer in model._flatten_layers())
    independent = not added and _is_independent(model, outputs, weight)
    seen = FirstLook(
        x=x, y=y, weight=weight, outputs=outputs, synchronized=synchronized, independent=independent, classes=classes,
        assigns=any(value is not None and not random_state.is_seed(variable) for variable, value in zip(
            model.non_trainable_variables, changed, strict=True
        )),
    )  # fmt: skip
    return seen, by_flags


@contextlib.contextmanager
def untouched(model: Any, more: Sequence[tuple[Any, Any]] = ()) -> Iterator[keras.StatelessScope]:
    """Where a model can be tried: what it assigns does not stay, and the losses that its layers add are gathered.

    Args:
      model: the model.
      more: variables and the values that they have in here.
    """
    # Keras takes the weights that it regularizes from the scope, and fails where one is not in it.
    weights = [(variable, tf.convert_to_tensor(variable.value)) for variable in model.trainable_variables]
    with keras.StatelessScope([*weights, *more], collect_losses=True) as scope:
        yield scope


def call(model: Any, x: Nest, *, training: bool) -> Nest:
    """A model's outputs, as Keras' own steps call it."""
    return model(x, training=training) if model._call_has_training_arg else model(x)


def _score(model: Any, x: Nest, y: Nest, outputs: Nest, weight: Nest, split: str) -> None:
    """Builds losses and metrics, and tries them."""
    try:
        with explained(f"what the model is compiled with, on the {split} data", x), untouched(model):
            if model._compile_loss is None:  # Its only losses may be those that its layers add.
                call(model, x, training=False)
            model._compute_loss(x, y, outputs, weight, training=False)
            results = model.compute_metrics(x, y, outputs, weight)
            expected = model.get_metrics_result()
    except UsageError:
        for what, nest in (("y", y), ("sample_weight", weight)):
            _check_output_keys(model, nest, outputs, f"load_data's {what} of the {split} data")
        if has_classes(model) and y is not None:  # A label that is no class is data's fault, and says so.
            LabelCheck(model, outputs, split=split)(keras.tree.map_structure(np.asarray, y))
        raise
    if set(results) != set(expected):
        more = ", ".join(sorted(set(results) ^ set(expected)))
        raise UsageError(
            f"{type(model).__name__}.compute_metrics returns other values than the model's metrics have ({more}), "
            "which would be those of the last batch alone; make each a metric of the model, such as keras.metrics.Mean"
        )


def _head(split: Split, preprocess: Preprocess | None, examples: int) -> tuple[Nest, Nest, Nest]:
    x, y, weight = split.head(examples)
    seeds = random_state.row_seeds(tf.constant(0, tf.int64), tf.range(examples, dtype=tf.int64))
    with explained("preprocess", x):
        x, y = prepare(preprocess, x, y, seeds, training=False)
    return x, y, weight


def _check_all_labels(model: Any, split: Split, preprocess: Preprocess | None, outputs: Nest) -> None:
    """Of arrays now; of a source as far as it was read, and of the rest as it is read."""
    own = _leaves_labels(split, preprocess)
    check = LabelCheck(model, outputs, split=split.name)
    if isinstance(split, SourceSplit):
        check(split.y if own else _head(split, preprocess, split.at_hand)[1])
        if own:
            split.check_labels = check
    else:
        check(split.y if own else _made_labels(split, preprocess))


def _leaves_labels(split: Split, preprocess: Preprocess | None) -> bool:
    """Whether the losses get a split's labels as they are."""
    if preprocess is None or split.y is None:
        return True
    examples = min(_EXAMPLES, split.examples)
    return _is_same(_head(split, preprocess, examples)[1], split.head(examples)[1])


def _made_labels(split: Arrays, preprocess: Preprocess | None) -> Nest:
    """All labels of a split, as the losses get them."""
    # Of what is computed here TensorFlow leaves out all that the labels do not need.
    labels = tf.function(lambda x, y, seeds: prepare(preprocess, x, y, seeds, training=False)[1], autograph=False)
    parts = []
    for first in range(0, split.examples, _LABELS):
        x, y, _ = split.rows(first, min(first + _LABELS, split.examples))
        rows = tf.range(first, first + len(keras.tree.flatten(y)[0]), dtype=tf.int64)
        parts.append(labels(x, y, random_state.row_seeds(tf.constant(0, tf.int64), rows)))
    return keras.tree.map_structure(lambda *leaves: np.concatenate([leaf.numpy() for leaf in leaves]), *parts)


def _check_keys(model: Any, x: Nest) -> None:
    """Refuses inputs that a functional model would leave aside."""
    known = getattr(model, "_inputs_struct", None)
    if not isinstance(x, dict) or known is None:
        return
    names = set(known) if isinstance(known, dict) else {tensor.name for tensor in keras.tree.flatten(known)}
    if unknown := sorted(set(map(str, x)) - set(map(str, names))):
        raise UsageError(
            f"load_data's x has {', '.join(unknown)}, which the model {model.name} does not take; its inputs are "
            f"{', '.join(sorted(map(str, names)))}: leave the others out, or give the model an input of that name"
        )


def _check_output_keys(model: Any, nest: Nest, outputs: Nest, what: str) -> None:
    """Says which keys of labels or weights are not those of a model's outputs, where Keras could not take them."""
    names = set(outputs) if isinstance(outputs, dict) else set(getattr(model, "output_names", None) or ())
    if isinstance(nest, dict) and names and set(nest) != names:
        given, known = (", ".join(sorted(map(str, keys))) for keys in (nest, names))
        raise UsageError(f"{what} has {given}, and the outputs of the model {model.name} are {known}; name them alike")


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
    return all(_is_mean_of_keras(part.loss, weighted=weight is not None) for part in compiled._flat_losses)


def _is_mean_of_keras(loss: Any, *, weighted: bool) -> bool:
    means = ("sum_over_batch_size", "mean") if weighted else ("sum_over_batch_size", "mean", "mean_with_sample_weight")
    function = getattr(loss, "fn", type(loss))
    of_its_batch = isinstance(loss, keras.losses.Circle) or getattr(loss, "ignore_class", None) is not None
    return loss.reduction in means and not of_its_batch and function.__module__.startswith(("keras.", "trainer."))


def _is_same(one: Nest, other: Nest) -> bool:
    if one is None:
        return other is None
    pairs: Sequence[tuple[Any, Any]] = list(zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=False))
    return all(
        left.shape == right.shape and left.dtype == right.dtype and bool(tf.reduce_all(left == right))
        for left, right in pairs
    )
