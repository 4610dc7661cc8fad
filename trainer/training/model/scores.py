"""What is measured while a model trains: its loss, and whatever metrics it was compiled with, by Keras' own names.

In a step everything is a tensor: the loss as a sum over examples, and the variables of Keras' metrics, which are sums,
too, for all metrics that several workers can share.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.core import result_figures
from trainer.core.exit_codes import UsageError

Sums = list[tf.Tensor]  # First the loss, float64: its mean over the batch × examples. Then the metrics' variables.


class Scores:
    """The metrics of a model that is compiled and built."""

    def __init__(self, model: Any) -> None:
        """Looks at what they are called.

        Raises:
          UsageError: one is called as another field of result.json is.
        """
        self._model = model
        tracker = model._loss_tracker  # Keras' own mean of the loss, whose place `Sums` takes.
        self.variables: list[Any] = _unique(
            variable for metric in model.metrics if metric is not tracker for variable in metric.variables
        )
        of_losses = [metric.variables for metric in getattr(model._compile_loss, "metrics", ())]
        place = {id(variable): index for index, variable in enumerate(self.variables)}
        # Where the trackers of single losses stand: (total, count) of each.
        self.loss_trackers = [(place[id(total)], place[id(count)]) for total, count in of_losses]
        self.unused = list(tracker.variables)
        self._own_tracker = self.unused if tracker in model.metrics else []
        if taken := sorted(self.values(self.start(), 1).keys() & result_figures.FIELDS):
            raise UsageError(f"a metric is called {taken[0]}, as another field of result.json is; give it another name")

    def start(self, before: Sequence[Any] | None = None) -> list[npt.NDArray[Any]]:
        """The sums at the start of an epoch: what the metrics are reset to.

        Args:
          before: the sums at the end of the epoch before; a metric may keep some of its state.
        """
        mapping = zip(self.variables, before[1:], strict=True) if before is not None else ()
        with keras.StatelessScope(list(mapping)) as scope:
            self._model.reset_metrics()
            values = [scope.get_current_value(variable) for variable in self.variables]
        kept = zip(self.variables, values, strict=True)
        return [np.zeros((), np.float64), *(np.asarray(v.numpy() if new is None else new) for v, new in kept)]

    def after(self, scope: keras.StatelessScope, before: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The metrics' variables at the end of a scope in which they were updated."""
        after = [scope.get_current_value(variable) for variable in self.variables]
        return [old if new is None else new for old, new in zip(before, after, strict=True)]

    def values(self, sums: Sequence[Any], examples: int) -> dict[str, float]:
        """The loss and the metrics, by name.

        Args:
          sums: over the examples.
          examples: how many there were.
        """
        loss = float(sums[0]) / max(examples, 1)
        state = [tf.convert_to_tensor(value) for value in sums[1:]]
        with keras.StatelessScope(list(zip(self.variables, state, strict=True))) as scope:
            if self._own_tracker:
                total, count = self._own_tracker
                scope.add_update((total, tf.constant(loss, total.dtype)))
                scope.add_update((count, tf.constant(1, count.dtype)))
            # A result may be a variable, whose value outside of the scope is another.
            results = keras.tree.map_structure(np.asarray, self._model.get_metrics_result())
        return {"loss": loss} | {name: _shortest(value) for name, value in _flat(results).items() if name != "loss"}


def _flat(results: dict[str, Any]) -> dict[str, Any]:
    """Results by name; those of a metric that gives several, each for itself."""
    flat: dict[str, Any] = {}
    for name, value in results.items():
        if isinstance(value, dict):
            flat |= value
        elif np.size(value) != 1:
            for index, one in enumerate(np.ravel(value)):  # Such as an F1 score of each class.
                flat[f"{name}_{index}"] = one
        else:
            flat[name] = np.ravel(value)[0]
    return flat


def _shortest(value: Any) -> float:
    """A float32 as the shortest number that is the same float32: 0.975, not 0.9750000238418579."""
    return float(str(np.float32(value)))


def _unique(variables: Any) -> list[Any]:
    return list({id(variable): variable for variable in variables}.values())
