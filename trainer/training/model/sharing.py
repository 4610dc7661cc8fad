"""What several replicas must know of each other to have the loss of the whole batch."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.core.exit_codes import UsageError
from trainer.training.data.arrays import sliced
from trainer.training.model import objective
from trainer.training.model.first_look import FirstLook, call, untouched
from trainer.training.model.objective import MEAN, Shares
from trainer.training.model.scores import Scores
from trainer.training.nests import Nest


class Sharing:
    """How a model's loss adds up over replicas: found out from its first batch, in whole and in parts."""

    def __init__(self, model: Any, scores: Scores, look: FirstLook, global_batch: int) -> None:
        """Looks at a model, and puts losses that can be shared in the place of those it is compiled with.

        Raises:
          UsageError: several workers cannot train it: a loss is neither a mean nor a sum over examples.
        """
        self._model, self._scores, self._batch = model, scores, global_batch
        self._parts = _parts(look)
        _check_variables(model)
        self.own_loss = type(model).compute_loss is not keras.Model.compute_loss
        self._own_kind = self._kind_of_own_loss(look) if self.own_loss else MEAN
        if self.own_loss and look.synchronized:
            raise UsageError(
                "a model with its own compute_loss and synchronized layers can be trained by one worker alone; put the "
                "loss into compile, or leave synchronized=True out"
            )
        self._shared = [] if self.own_loss else objective.share_losses(model, self._kinds_of_losses(look))
        self._added_kinds = [] if self.own_loss else self._kinds_of_added(look)
        self.asks_divisors = bool(self._shared) and self._has_unknown_divisors(look)

    @property
    def losses(self) -> int:
        """How many losses are shared one by one."""
        return len(self._shared)

    def loss(
        self, x: Nest, y: Nest, outputs: Nest, weight: Nest, divisors: tf.Tensor | None
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor | None]]:
        """A replica's part of the batch's loss.

        Args:
          x: its inputs.
          y: its labels.
          outputs: the model's.
          weight: of the examples.
          divisors: what each loss of the whole batch is divided by, float32 [losses]; None while that is counted.

        Returns:
          The part; that of each single loss; and what this replica adds to each divisor, None where that is known.
        """
        share = int(keras.tree.flatten(x)[0].shape[0])
        if self.own_loss:
            loss = tf.reduce_sum(self._model._compute_loss(x, y, outputs, weight, training=True))
            return loss * (share / self._batch if self._own_kind == MEAN else 1.0), [], []
        whole = None if divisors is None else list(tf.unstack(divisors, len(self._shared)))
        shares = Shares(share=share, batch=self._batch, divisors=whole)
        with objective.sharing(self._shared, shares):
            losses = [] if self._model._compile_loss is None else [self._model._compile_loss(y, outputs, weight)]
        for index, added in enumerate(self._model.losses):
            kind = self._added_kinds[index] if index < len(self._added_kinds) else MEAN
            total = tf.reduce_sum(tf.cast(added, keras.config.floatx()))
            losses.append(total * (share / self._batch) if kind == MEAN else total)
        if not losses:
            raise UsageError("the model has no loss: compile it with one, or add one with add_loss")
        return tf.add_n([tf.cast(loss, losses[0].dtype) for loss in losses]), shares.values, shares.counted

    def with_parts(self, metrics: Sequence[tf.Tensor], parts: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The metrics, with the trackers of single losses set right: Keras has taken a part for a mean."""
        metrics = list(metrics)
        for (total, _), part in zip(self._scores.loss_trackers, parts, strict=False):
            metrics[total] = tf.cast(part, metrics[total].dtype) * self._batch
        return metrics

    def _kind_of_own_loss(self, look: FirstLook) -> str:
        name = f"{type(self._model).__name__}.compute_loss"

        def value(part: tuple[Nest, Nest, Nest, Nest]) -> float:
            x, y, outputs, weight = part
            with untouched(self._model):
                loss = tf.convert_to_tensor(self._model._compute_loss(x, y, outputs, weight, training=True))
            if loss.shape.rank:
                raise UsageError(
                    f"{name} gives a loss of each example, which several workers cannot share; return one number, such "
                    "as their mean, or train with one worker"
                )
            return float(loss)

        whole = value((look.x, look.y, look.outputs, look.weight))
        return self._kind(name, whole, [value(part) for part in self._parts])

    def _kinds_of_losses(self, look: FirstLook) -> list[str]:
        kinds = []
        labels = objective.Labels(self._model)
        batches = [(look.y, look.outputs, look.weight), *(part[1:] for part in self._parts)]
        found = [labels.given(*batch) for batch in batches]
        for index, part in enumerate(labels.losses):
            whole, *parts = [of_batch[index] for of_batch in found]
            values = [objective.each(part.loss, y, outputs) for y, outputs, _ in (whole, *parts)]
            if values[0] is not None:
                if not np.allclose(
                    values[0],
                    np.concatenate([value for value in values[1:] if value is not None]),
                    rtol=1e-3,
                    atol=1e-4,
                    equal_nan=True,
                ):
                    raise UsageError(
                        f"the loss {part.loss.name} of an example depends on the others of its batch, so several "
                        "workers cannot share it; train with one worker"
                    )
                kinds.append(MEAN)
                continue
            kinds.append(
                self._kind(
                    f"the loss {part.loss.name}", float(part.loss(*whole)), [float(part.loss(*p)) for p in parts]
                )
            )
        return kinds

    def _kinds_of_added(self, look: FirstLook) -> list[str]:
        """Of what `add_loss` and regularizers add. What is neither is taken as Keras' own strategies do: as a mean."""
        in_training = self._added_kinds_in(look, training=True)
        # Where random layers hide it, it may be seen without them.
        without = self._added_kinds_in(look, training=False) if None in in_training else []
        same = len(without) == len(in_training)
        return [kind or (same and without[index]) or MEAN for index, kind in enumerate(in_training)]

    def _added_kinds_in(self, look: FirstLook, *, training: bool) -> list[str | None]:
        values = []
        for x, *_ in ((look.x, look.y, look.outputs, look.weight), *self._parts):
            with untouched(self._model):
                call(self._model, x, training=training)
                values.append([float(tf.reduce_sum(tf.cast(added, tf.float32))) for added in self._model.losses])
        whole, *parts = values
        sizes = [len(keras.tree.flatten(part[0])[0]) for part in self._parts]
        return [objective.kind_of(total, [part[index] for part in parts], sizes) for index, total in enumerate(whole)]

    def _kind(self, name: str, whole: float, parts: Sequence[float]) -> str:
        sizes = [len(keras.tree.flatten(part[0])[0]) for part in self._parts]
        kind = objective.kind_of(whole, parts, sizes)
        if kind is None:
            raise UsageError(
                f"{name} of a batch is neither the mean nor the sum of those of its parts, so several workers cannot "
                "share it; let it return one value an example, or train with one worker"
            )
        return kind

    def _has_unknown_divisors(self, look: FirstLook) -> bool:
        shares = Shares(share=look.examples, batch=look.examples)
        with objective.sharing(self._shared, shares), untouched(self._model):
            self._model._compile_loss(look.y, look.outputs, look.weight)
        return any(count is not None for count in shares.counted)


def _check_variables(model: Any) -> None:
    for variable in model.trainable_variables:
        if getattr(variable, "overwrite_with_gradient", False):
            raise UsageError(
                f"{variable.path} is a scale of float8, which each worker would set by its own share of a batch; train "
                "with one worker, or in another precision"
            )


def _parts(look: FirstLook) -> list[tuple[Nest, Nest, Nest, Nest]]:
    ends = [(0, look.cut), (look.cut, look.examples)]
    nests = (look.x, look.y, look.outputs, look.weight)
    return [tuple(sliced(nest, *end) for nest in nests) for end in ends if end[0] < end[1]]
