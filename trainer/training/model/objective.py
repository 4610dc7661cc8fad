"""The loss of a global batch from the shares of several replicas, exactly as Keras has it for the whole batch.

Keras divides a replica's loss by what is in that replica, which is right for the whole only where all shares are equal
and nothing is masked. Here each replica contributes its sum over what the whole batch is divided by, so that the sum
over replicas is the loss of the batch. Of one replica alone Keras' own loss is taken as it is.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras.src import backend
from keras.src.losses.loss import apply_mask, reduce_weighted_values, squeeze_or_expand_to_same_rank

from trainer.core.exit_codes import UsageError

MEAN, SUM = "mean", "sum"  # How a loss of a batch follows from those of its parts.


@dataclasses.dataclass
class Shares:
    """What a replica's loss is divided by, while a step is traced."""

    share: int  # Examples of this replica.
    batch: int  # Examples of all replicas.
    divisors: list[tf.Tensor | None] | None = None  # The whole batch's, one a loss; None: they are being counted.
    counted: list[tf.Tensor | None] = dataclasses.field(default_factory=list)  # This replica's; None: known anyway.
    values: list[tf.Tensor] = dataclasses.field(default_factory=list)  # This replica's part of each loss.


class SharedLoss:
    """Stands in for one of a model's losses and gives a replica's part of it."""

    def __init__(self, loss: Any, kind: str) -> None:
        """Takes a loss of Keras', and `MEAN` or `SUM`: how it adds up where it gives one number for a batch."""
        self.loss, self._kind = loss, kind
        self.name = loss.name
        self.shares: Shares | None = None

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tf.Tensor:
        """This replica's part of the loss; called by Keras."""
        shares = self.shares
        if shares is None:  # As in an evaluation, where each replica has whole batches.
            return self.loss(y_true, y_pred, sample_weight)
        index = len(shares.values)
        part, local, whole = self._parts(y_true, y_pred, sample_weight, shares)
        shares.counted.append(local)
        if local is not None and shares.divisors is not None:
            whole = shares.divisors[index]
        value = part if whole is None else tf.math.divide_no_nan(part, tf.cast(whole, part.dtype))
        shares.values.append(value)
        return value

    def _parts(self, y_true: Any, y_pred: Any, weight: Any, shares: Shares) -> tuple[Any, Any, Any]:
        """A sum over this replica's share; what it holds of the divisor; and the whole divisor where it is known."""
        loss = self.loss
        if _has_own_call(loss):
            return self._scaled(loss(y_true, y_pred, weight), shares), None, None
        mask = backend.get_keras_mask(y_pred)
        y_pred, y_true = (
            keras.tree.map_structure(lambda leaf: keras.ops.convert_to_tensor(leaf, dtype=loss.dtype), nest)
            for nest in (y_pred, y_true)
        )
        values = loss.call(y_true, y_pred)
        out_mask = backend.get_keras_mask(values)
        mask = out_mask if mask is None else mask if out_mask is None else mask & out_mask
        if tuple(values.shape) == ():
            one = reduce_weighted_values(values, weight, mask, loss.reduction, loss.dtype)
            return self._scaled(one, shares), None, None
        values = tf.convert_to_tensor(values)
        weight = None if weight is None else keras.ops.convert_to_tensor(weight, dtype=loss.dtype)
        # With the reduction "sum" a mask is 0 and 1; Keras' factor for the others is put into the divisor below.
        weight = apply_mask(weight, mask, dtype=values.dtype, reduction="sum")
        if weight is not None:
            values, weight = squeeze_or_expand_to_same_rank(values, tf.cast(weight, values.dtype))
            values *= weight
        total = tf.reduce_sum(values)
        if loss.reduction == "sum":
            return total, None, None
        if loss.reduction == "mean_with_sample_weight" and weight is not None:
            return total, tf.reduce_sum(weight), None
        entries = tf.cast(tf.size(values), values.dtype)
        if mask is None:
            return total, None, entries * (shares.batch / shares.share)
        # Keras: the sum × (entries of the mask / valid entries of the mask) / entries of the loss.
        masked = tf.cast(tf.size(mask), values.dtype)
        return total * masked / entries, tf.reduce_sum(tf.cast(mask, values.dtype)), None

    def _scaled(self, value: tf.Tensor, shares: Shares) -> tf.Tensor:
        """This replica's part of a loss that is one number for a batch."""
        return value * (shares.share / shares.batch) if self._kind == MEAN else value


@contextlib.contextmanager
def sharing(losses: Sequence[SharedLoss], shares: Shares) -> Iterator[None]:
    """Lets these losses give a replica's part of a batch."""
    for loss in losses:
        loss.shares = shares
    try:
        yield
    finally:
        for loss in losses:
            loss.shares = None


def share_losses(model: Any, kinds: Sequence[str]) -> list[SharedLoss]:
    """Puts `SharedLoss`es in the place of a compiled model's losses, which are built; returns them.

    Args:
      model: the model.
      kinds: how each of them adds up, as `kinds_of` says.

    Raises:
      UsageError: a loss is not reduced to one number.
    """
    compiled = model._compile_loss
    if compiled is None:
        return []
    shared = []
    for index, part in enumerate(compiled._flat_losses):
        if part.loss.reduction in (None, "none"):
            raise UsageError(
                f"the loss {part.loss.name} has the reduction None, which several workers cannot share; give it "
                'reduction="sum_over_batch_size"'
            )
        shared.append(SharedLoss(part.loss, kinds[index]))
        compiled._flat_losses[index] = part._replace(loss=shared[-1])
    return shared


class Labels:
    """Finds the labels, outputs and weights of each loss of a compiled model, as Keras does: by name or place.

    It asks a copy of what the model is compiled with, so any thread may use it, whatever the model does meanwhile.
    """

    def __init__(self, model: Any) -> None:
        """Takes a model whose losses are built, or one without."""
        compiled = model._compile_loss
        there = compiled is not None and compiled.built
        self.losses: tuple[Any, ...] = tuple(compiled._flat_losses) if there else ()  # Each with its path.
        self._kind, self._compiled = type(compiled), dict(vars(compiled)) if there else {}

    def given(self, y: Any, outputs: Any, weight: Any = None) -> list[tuple[Any, Any, Any]]:
        """One of each for a loss.

        Raises:
          ValueError, KeyError, IndexError, TypeError: they do not fit the losses.
        """
        found: list[tuple[Any, Any, Any]] = []

        def noted(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
            found.append((y_true, y_pred, sample_weight))
            return 0.0

        if self.losses:
            compiled = object.__new__(self._kind)
            vars(compiled).update(self._compiled, _flat_losses=[part._replace(loss=noted) for part in self.losses])
            with keras.StatelessScope():  # Which the means of single losses stay out of.
                compiled.call(y, outputs, weight)
        return found


def kind_of(whole: Any, parts: Sequence[Any], shares: Sequence[int]) -> str | None:
    """How a number for a batch follows from those for its parts: `MEAN`, `SUM`, or None for neither."""
    total = sum(shares)
    mean = sum(float(part) * share / total for part, share in zip(parts, shares, strict=True))
    added = sum(map(float, parts))

    def near(value: float) -> bool:
        return abs(value - float(whole)) <= 1e-4 * max(abs(float(whole)), 1e-3)

    return MEAN if near(mean) else SUM if near(added) else None


def each(loss: Any, y_true: Any, y_pred: Any) -> npt.NDArray[Any] | None:
    """A loss of each example; None where it gives one number for a batch."""
    if _has_own_call(loss):
        return None
    y_pred, y_true = (
        keras.tree.map_structure(lambda leaf: keras.ops.convert_to_tensor(leaf, dtype=loss.dtype), nest)
        for nest in (y_pred, y_true)
    )
    values = np.asarray(loss.call(y_true, y_pred))
    return values if values.ndim else None


def _has_own_call(loss: Any) -> bool:
    return type(loss).__call__ is not keras.losses.Loss.__call__
