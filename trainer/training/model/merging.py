"""How the metrics of several replicas become those of all examples.

The variables of most metrics are sums: each replica adds what its examples add. To a mean of one number a batch each
replica adds that of its share, weighted by its examples. A metric of another kind says itself how its states are
merged, by a method `merge_replicas`.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.core.exit_codes import UsageError
from trainer.training.data.arrays import sliced
from trainer.training.model.first_look import FirstLook, call, untouched
from trainer.training.model.scores import Scores, Sums
from trainer.training.nests import Nest

MERGE = "merge_replicas"


class Merging:
    """Looks at a model's metrics on the first batch, in whole and in parts."""

    def __init__(self, model: Any, scores: Scores, look: FirstLook, replicas: int) -> None:
        """Takes a model that is compiled and built.

        Raises:
          UsageError: there are several replicas, and a metric cannot be measured on them.
        """
        self._model, self._scores, self._replicas = model, scores, replicas
        self._start = scores.start()
        self._place = {id(variable): index for index, variable in enumerate(scores.variables)}
        self._of_batches: set[int] = set()  # Places of means of one number a batch.
        self._merged: list[Any] = []  # Metrics that say how their states are merged.
        self.adds_up = True  # Whether every metric is a sum over examples, however they are put into batches.
        if look.examples > 1:
            self._look_at(look)
        self._places = {self._place[id(variable)] for metric in self._merged for variable in metric.variables}

    def begun(self, sums: Sequence[Any]) -> Sums:
        """What a replica's metrics hold when a batch begins, of which it has a share; `sums` begins with the loss."""
        pairs = enumerate(zip(self._start[1:], sums[1:], strict=True))
        return [now if index in self._places else tf.convert_to_tensor(start) for index, (start, now) in pairs]

    def contributions(self, after: Sequence[Any], replica: int, part: float = 1.0) -> Sums:
        """What a replica gives to a sum over all of them, of its metrics' variables as they are now.

        Args:
          after: the variables.
          replica: whose they are.
          part: its share of the batch; 1 where each replica has whole batches.
        """
        given: Sums = []
        for index, (value, start) in enumerate(zip(after, self._start[1:], strict=True)):
            if index in self._places:
                given.append(self._placed(value, replica))
                continue
            added = value - tf.cast(start, value.dtype)
            given.append(added * tf.cast(part, added.dtype) if index in self._of_batches else added)
        return given

    def joined(self, before: Sequence[Any], summed: Sequence[Any]) -> Sums:
        """The metrics' variables: those before, with the sum over all replicas of their contributions."""
        after = [
            old if index in self._places else old + tf.cast(new, old.dtype)
            for index, (old, new) in enumerate(zip(before, summed, strict=True))
        ]
        for metric in self._merged:
            places = [self._place[id(variable)] for variable in metric.variables]
            states = {
                variable.name: tf.cast(summed[place], variable.dtype)
                for variable, place in zip(metric.variables, places, strict=True)
            }
            merged = _merge(metric, states)
            for variable, place in zip(metric.variables, places, strict=True):
                after[place] = tf.cast(merged[variable.name], variable.dtype)
        return after

    def _placed(self, value: tf.Tensor, replica: int) -> tf.Tensor:
        """A row for each replica, of which this one fills its own."""
        own = [value if index == replica else tf.zeros_like(value) for index in range(self._replicas)]
        return tf.stack(own)

    def _look_at(self, look: FirstLook) -> None:
        whole = self._state(look, 0, look.examples)
        parts = [self._state(look, 0, look.cut), self._state(look, look.cut, look.examples)]
        for metric in self._metrics():
            of = [(variable, self._place[id(variable)]) for variable in metric.variables]
            uneven = [variable for variable, place in of if not self._is_sum(whole, parts, place)]
            if not uneven:
                continue
            self.adds_up = False
            if isinstance(metric, keras.metrics.Mean) and all(
                self._is_mean(whole, parts, place, look) for _, place in of
            ):
                self._of_batches |= {place for _, place in of}
                continue
            if callable(getattr(metric, MERGE, None)):
                states = {variable.name: tf.stack([part[place] for part in parts]) for variable, place in of}
                merged = _merge(metric, states)
                if all(_near(whole[place], np.asarray(merged[variable.name])) for variable, place in of):
                    self._merged.append(metric)
                    continue
                why = f"what its {MERGE} makes of a batch's parts is not what it holds of the batch"
            else:
                why = (
                    f"its variable {uneven[0].name} of a batch is not the sum of those of the batch's parts; make it "
                    f"of sums, give it a method {MERGE}(states), or train with one worker"
                )
            if self._replicas > 1:
                raise UsageError(
                    f"the metric {metric.name} ({type(metric).__name__}) cannot be measured on several workers: {why}"
                )

    def _is_sum(self, whole: Sequence[Any], parts: Sequence[Sequence[Any]], place: int) -> bool:
        start = np.asarray(self._start[1 + place], np.float64)
        if not np.all(np.isfinite(start)):
            return False
        return _near(whole[place] - start, sum(part[place] - start for part in parts))

    def _is_mean(self, whole: Sequence[Any], parts: Sequence[Sequence[Any]], place: int, look: FirstLook) -> bool:
        """Whether a variable of a batch is the mean of those of the batch's parts, by their examples."""
        start, first = np.asarray(self._start[1 + place], np.float64), look.cut / look.examples
        mean = sum(share * (part[place] - start) for share, part in zip((first, 1 - first), parts, strict=True))
        return _near(whole[place] - start, mean)

    def _metrics(self) -> list[Any]:
        """All that are measured, but for the means of losses, which are shared with the losses."""
        compiled, losses = self._model._compile_metrics, self._model._compile_loss
        not_these = {id(metric) for metric in getattr(losses, "metrics", ())} | {id(self._model._loss_tracker)}
        single: list[Any] = []
        for metric in self._model.metrics:
            single += compiled.metrics if metric is compiled else [metric]
        return [metric for metric in single if id(metric) not in not_these]

    def _state(self, look: FirstLook, begin: int, end: int) -> list[npt.NDArray[Any]]:
        """The metrics' variables after some of the examples."""
        x, y, weight = (sliced(nest, begin, end) for nest in (look.x, look.y, look.weight))
        model = self._model
        with untouched(model, list(zip(self._scores.variables, self._start[1:], strict=True))) as scope:
            outputs: Nest = call(model, x, training=False)
            model._compute_loss(x, y, outputs, weight, training=False)
            model.compute_metrics(x, y, outputs, weight)
        state = self._scores.after(scope, [tf.convert_to_tensor(value) for value in self._start[1:]])
        return [np.asarray(value).astype(np.float64) for value in state]


def _merge(metric: Any, states: dict[str, Any]) -> dict[str, Any]:
    merged = getattr(metric, MERGE)(states)
    if not isinstance(merged, dict) or set(merged) != set(states):
        raise UsageError(
            f"{MERGE} of the metric {metric.name} returned {merged!r:.100}; expected a dict with a value for each of "
            f"its variables: {', '.join(states)}"
        )
    return merged


def _near(one: Any, other: Any) -> bool:
    scale = float(np.max(np.abs(one), initial=0, where=np.isfinite(one)))
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-4 * max(1.0, scale), equal_nan=True))
