"""What several workers cannot share: refused by name before the first step. One worker trains all of it."""

from collections.abc import Callable
from typing import Any

import keras
import pytest

from tests.support.put_together import GOOD, X, network, put_together
from tests.training.oracle.more_kinds import Least, MergedLeast
from trainer.core.exit_codes import UsageError
from trainer.training.model.merging import Merging
from trainer.training.model.scores import Scores
from trainer.training.model.sharing import Sharing

NUMBERS = (X, X[:, :3]), None


class EachExample(keras.Model):
    """With a loss of its own for each example."""

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:  # noqa: ARG002
        return keras.ops.mean(keras.ops.square(y_pred - y), axis=-1)


def root(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.sqrt(keras.ops.mean(keras.ops.square(y_true - y_pred)))


def own_loss() -> Any:
    inputs = keras.Input((5,))
    model = EachExample(inputs, keras.layers.Dense(3)(inputs))
    model.compile("sgd")
    return model


def in_float8() -> Any:
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    model.layers[0].quantize("float8")
    model.compile("sgd", "mse")
    return model


class MergedWrongly(MergedLeast):
    def merge_replicas(self, states: Any) -> Any:
        return {"value": keras.ops.sum(states["value"], axis=0)}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: network(loss=keras.losses.MeanSquaredError(reduction=None)), "has the reduction None"),
        (lambda: network(loss=root), "is neither the mean nor the sum of those of its parts"),
        (lambda: network(loss=keras.losses.Dice()), "is neither the mean nor the sum"),
        (own_loss, "EachExample.compute_loss gives a loss of each example"),
        (in_float8, "is a scale of float8"),
    ],
)
def test_losses_that_cannot_be_shared(model: Callable[[], Any], words: str) -> None:
    parts = put_together(data=NUMBERS, model=lambda _: model())
    with pytest.raises(UsageError, match=words):
        Sharing(parts.model, Scores(parts.model), parts.look, 8)


@pytest.mark.parametrize(("metric", "why"), [(Least, "make it of sums"), (MergedWrongly, "merge_replicas")])
def test_metrics_that_are_no_sums(metric: Any, why: str) -> None:
    parts = put_together(data=GOOD, model=lambda _: network(metrics=[metric()]))
    with pytest.raises(UsageError, match=rf"the metric .* cannot be measured on several workers: .*{why}"):
        Merging(parts.model, Scores(parts.model), parts.look, 2)
    Merging(parts.model, Scores(parts.model), parts.look, 1)
