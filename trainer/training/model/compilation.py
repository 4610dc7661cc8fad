"""The model as it is trained: compiled by its user, or by the flags; built; and refused where it cannot be honoured."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from keras.src.trainers.trainer import Trainer

from trainer.core.config import Config
from trainer.core.exit_codes import DataError, UsageError
from trainer.training.explaining import shape
from trainer.training.model import objective, schedules, update
from trainer.training.nests import Nest

_OWN_STEPS = ("train_step", "test_step", "make_train_function", "fit")


@keras.saving.register_keras_serializable(package="trainer")
class Quadratic(keras.losses.Loss):  # type: ignore[misc]
    """Half the sum of the squares of output minus one-hot label."""

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """The loss of each example: float32 [batch], for labels [batch] and outputs [batch, classes]."""
        labels = tf.reshape(tf.cast(y_true, tf.int32), [-1])
        return 0.5 * tf.reduce_sum(tf.square(y_pred - tf.one_hot(labels, y_pred.shape[-1])), axis=-1)


def set_precision(config: Config) -> None:
    """Sets what layers that are made from now on compute in."""
    keras.config.set_dtype_policy("mixed_bfloat16" if config.precision == "bfloat16" else "float32")


class Compilations:
    """Notes what `compile` is called with, which Keras itself does not keep: whether XLA was asked for."""

    def __init__(self) -> None:
        self._jit_compile: dict[int, Any] = {}

    def jit_compile(self, model: Any) -> bool | None:
        """What the user said: True, False, or None for nothing."""
        given = self._jit_compile.get(id(model), "auto")
        return None if given == "auto" else bool(given)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Notes the calls in here."""
        original, from_file = Trainer.compile, Trainer.compile_from_config

        def compile_(model: Any, *args: Any, **kwargs: Any) -> Any:
            self._jit_compile[id(model)] = kwargs.get("jit_compile", "auto")
            return original(model, *args, **kwargs)

        def compile_from_config(model: Any, config: Any) -> Any:
            compiled = from_file(model, config)
            # A file holds what Keras chose where it was written, as if its user had said it.
            self._jit_compile.pop(id(model), None)
            return compiled

        Trainer.compile = compile_  # Where Keras itself looks whether a model has a compile of its own.
        Trainer.compile_from_config = compile_from_config
        try:
            yield
        finally:
            Trainer.compile, Trainer.compile_from_config = original, from_file


def check_model(model: Any, experiment: str) -> None:
    """Refuses what no step of ours could do as the model's user means it.

    Raises:
      UsageError: names it, and what to do instead.
    """
    if not isinstance(model, keras.Model):
        what = "None" if model is None else f"a {type(model).__name__}"
        raise UsageError(f"build_model of --experiment={experiment} returned {what}; expected a Keras model")
    for name in _OWN_STEPS:
        if getattr(type(model), name) is not getattr(keras.Model, name):
            raise UsageError(
                f"{type(model).__name__} has a {name} of its own, which is not called here: the trainer has its own "
                "loop; put the loss into compute_loss and the metrics into compile or compute_metrics"
            )
    if model.compiled and model.run_eagerly:
        raise UsageError(
            "the model is compiled with run_eagerly=True, and the steps here are always compiled; leave it out, "
            "and look "
            "at values with tf.print"
        )
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False) and isinstance(layer, keras.layers.RNN):
            raise UsageError(
                f"the layer {layer.name} is stateful: its state would go on from one shuffled batch to the next; leave "
                "stateful=True out"
            )
        for name in dir(type(layer)):
            if isinstance(getattr(type(layer), name, None), tf.types.experimental.PolymorphicFunction):
                raise UsageError(
                    f"{type(layer).__name__}.{name} of the layer {layer.name} is a tf.function, which would keep the "
                    "weights that it saw first; leave the decorator out, the steps are compiled as they are"
                )
        if isinstance(layer, keras.layers.StringLookup | keras.layers.TextVectorization):
            raise UsageError(
                f"the layer {layer.name} computes with text, which a compiled step cannot; call it in load_data "
                "and give "
                "the model its numbers"
            )
    if model.compiled:
        update.check(model.optimizer)
        if known := update.differs_from_fit(model.optimizer):
            logging.warning("%s", known)


def compile_by_flags(model: Any, config: Config, y: Nest, outputs: Nest, steps: int) -> None:
    """Compiles a model that is not, with the loss and the optimizer of the flags and the accuracy.

    Args:
      model: the model, which classifies.
      config: the flags.
      y: some labels: whole numbers from 0, or one-hot.
      outputs: what the model gives for their examples.
      steps: of the whole run, for a schedule.

    Raises:
      UsageError: it does not classify, or has several outputs; or the warm-up is longer than the run.
    """
    if keras.tree.is_nested(outputs) or keras.tree.is_nested(y) or y is None:
        raise UsageError(
            "the model is not compiled, and the flags can compile one with one output and one label an example only; "
            "compile it in build_model: model.compile(optimizer=..., loss=..., metrics=...)"
        )
    if len(outputs.shape) != 2:
        raise UsageError(
            f"the model is not compiled and gives {shape(outputs)}; the flags can compile one that gives one number a "
            "class, [batch, classes]; compile it in build_model"
        )
    if y.dtype.is_floating and not bool(tf.reduce_all(tf.equal(y, tf.round(y)))):
        raise UsageError(
            f"the labels are {y.dtype.name} and no whole numbers, and the model is not compiled: the flags compile "
            "classification; for regression, compile it in build_model: model.compile(optimizer=..., loss=...)"
        )
    classes = outputs.shape[-1]
    sparse = len(y.shape) < 2 or (y.shape[-1] == 1 and classes > 1)
    if config.loss == "quadratic":
        if not sparse or classes == 1:
            raise UsageError("--loss=quadratic takes labels that are whole numbers and a model with an output a class")
        loss: Any = Quadratic()
    elif classes == 1:
        loss = keras.losses.BinaryCrossentropy(from_logits=not _is_probability(outputs))
    elif sparse:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not _is_distribution(model, outputs))
    else:
        loss = keras.losses.CategoricalCrossentropy(from_logits=not _is_distribution(model, outputs))
    # Given when it is made: TensorFlow cannot save an optimizer whose rate has become a schedule.
    rate = schedules.schedule(config, steps)
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=config.momentum, name="sgd")
    else:
        optimizer = keras.optimizers.Adam(rate, name="adam")
    accuracy: Any = keras.metrics.CategoricalAccuracy("accuracy")
    if classes == 1:
        threshold = 0.5 if _is_probability(outputs) else 0.0
        accuracy = keras.metrics.BinaryAccuracy("accuracy", threshold=threshold)
    elif sparse:
        accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
    model.compile(optimizer=optimizer, loss=loss, metrics=[accuracy])


class LabelCheck:
    """Refuses labels that are none of a loss's classes, before they give a loss that means nothing; in any thread."""

    def __init__(self, model: Any, outputs: Nest, *, split: str) -> None:
        """Takes what the labels are for.

        Args:
          model: compiled, its losses built.
          outputs: what the model gives for some of its examples.
          split: what the split is called.
        """
        self._labels, self._outputs, self._split = objective.Labels(model), outputs, split

    def __call__(self, y: Nest, rows: Any = None) -> None:
        """Looks at labels.

        Args:
          y: labels of the split, as arrays.
          rows: the numbers of the examples, where they are not 0, 1, 2 …

        Raises:
          DataError: names the label and where it stands.
        """
        try:
            found = self._labels.given(y, self._outputs)
        except (ValueError, KeyError, IndexError, TypeError):  # What does not fit is said where the losses are tried.
            return
        for part, (labels, output, _) in zip(self._labels.losses, found, strict=True):
            if labels is None or np.asarray(labels).dtype.kind not in "biuf":
                continue
            if _is_sparse(part.loss):
                _check_classes(np.asarray(labels), output.shape[-1], part.loss, self._split, rows)
            elif _is_binary(part.loss):
                _check_probabilities(np.asarray(labels), part.loss, self._split, rows)


def has_classes(model: Any) -> bool:
    """Whether one of a model's losses takes labels that `LabelCheck` looks at."""
    return any(_is_sparse(part.loss) or _is_binary(part.loss) for part in objective.Labels(model).losses)


_FIX = "mend the labels, or give the model an output a class"


def _check_classes(labels: Any, classes: int, loss: Any, split: str, rows: Any) -> None:
    ignored = getattr(loss, "ignore_class", None)
    counted = labels if ignored is None else labels[labels != ignored]
    if not counted.size:
        return
    if counted.dtype.kind == "f" and not np.all(counted == np.round(counted)):
        value = counted.flat[int(np.argmax(counted != np.round(counted)))]
        raise DataError(
            f"the loss {loss.name} takes whole numbers as labels, and there is {value} in the {split} data; {_FIX}"
        )
    if counted.min() < 0 or counted.max() >= classes:
        wrong = (labels < 0) | (labels >= classes)
        if ignored is not None:
            wrong &= labels != ignored
        value, at = _first(labels, wrong, rows)
        raise DataError(
            f"the label {value} of example {at} of the {split} data is none of the model's {classes} classes, 0 to "
            f"{classes - 1}; {_FIX}"
        )


def _check_probabilities(labels: Any, loss: Any, split: str, rows: Any) -> None:
    if labels.size and (labels.min() < 0 or labels.max() > 1):
        value, at = _first(labels, (labels < 0) | (labels > 1), rows)
        raise DataError(
            f"the loss {loss.name} takes labels from 0 to 1, and that of example {at} of the {split} data is {value}; "
            "mend the labels, or compile the model with another loss"
        )


def _first(labels: Any, wrong: Any, rows: Any) -> tuple[Any, int]:
    """The first label that is wrong, and its example."""
    at = int(np.argmax(wrong.reshape(len(labels), -1).any(axis=1)))
    return (labels[at] if labels.ndim == 1 else labels[at][wrong[at]].flat[0]), at if rows is None else int(rows[at])


def _is_sparse(loss: Any) -> bool:
    sparse = keras.losses.sparse_categorical_crossentropy
    return isinstance(loss, keras.losses.SparseCategoricalCrossentropy) or getattr(loss, "fn", None) is sparse


def _is_binary(loss: Any) -> bool:
    functions = (keras.losses.binary_crossentropy, keras.losses.binary_focal_crossentropy)
    return getattr(loss, "fn", None) in functions


def _is_distribution(model: Any, outputs: tf.Tensor) -> bool:
    """Whether outputs are probabilities of classes: they add up to 1, or are said to be by the last activation."""
    last = getattr(model.layers[-1], "activation", None) if model.layers else None
    if last in (keras.activations.softmax, keras.activations.sigmoid):
        return True
    sums = tf.reduce_sum(tf.cast(outputs, tf.float32), -1)
    return bool(tf.reduce_all(outputs >= 0)) and bool(tf.reduce_all(tf.abs(sums - 1.0) < 1e-2))


def _is_probability(outputs: tf.Tensor) -> bool:
    """Whether the outputs of a model with one of them are probabilities and no logits: none is outside of 0 to 1."""
    return bool(tf.reduce_all((outputs >= 0) & (outputs <= 1)))
