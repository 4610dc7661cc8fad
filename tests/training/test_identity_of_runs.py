"""What tells one run from another: a resume that changes any of it is refused, and the line names it."""

from collections.abc import Callable
from typing import Any

import keras
import pytest

from tests.support.put_together import GOOD, X, Y, network, put_together
from trainer.core.exit_codes import UsageError
from trainer.training.state.checkpoint import Checkpoint, check_identity


def taken(**identity: Any) -> Checkpoint:
    """A checkpoint of a run of that identity."""
    return Checkpoint(
        step=3, sums=[], history=[], seconds=0.0, step_seconds=0.0, step_examples=0, identity=identity, arrays={}
    )


def identity(model: Callable[[], Any] = network, data: Any = GOOD) -> dict[str, Any]:
    """As of a start in a process of its own, where Keras begins to count its layers."""
    keras.backend.clear_session()
    return put_together(model=lambda _: model(), data=data).identity


def other_layers() -> Any:
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, "softmax", kernel_regularizer="l2")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    ("named", "other"),
    [
        ("loss", lambda: network(loss=keras.losses.SparseCategoricalCrossentropy(reduction="sum"))),
        ("optimizer", lambda: network(optimizer="adam")),
        ("optimizer", lambda: network(optimizer=keras.optimizers.SGD(0.01, clipnorm=1.0))),
        ("loss weights", lambda: network(loss_weights=[0.5])),
        ("metrics", lambda: network(metrics=["accuracy"])),
        ("layers", other_layers),
    ],
)
def test_a_resume_with_another_is_refused(named: str, other: Callable[[], Any]) -> None:
    before = taken(**identity())
    check_identity(before, identity())  # The same once more is the same.
    with pytest.raises(UsageError, match=f"step 3 was made with {named} "):
        check_identity(before, identity(other))


def by_flags(**flags: Any) -> dict[str, Any]:
    """Of a model that the flags compile."""
    keras.backend.clear_session()
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, "softmax")])
    return put_together(model=lambda _: model, optimizer="sgd", **flags).identity


def test_with_another_momentum_too() -> None:
    without, with_it = by_flags(), by_flags(momentum=0.9)
    for before, now in ((without, with_it), (with_it, without), (with_it, by_flags(momentum=0.5))):
        with pytest.raises(UsageError, match="step 3 was made with momentum "):
            check_identity(taken(**before), now)
    check_identity(taken(**with_it), by_flags(momentum=0.9))
    check_identity(taken(**without), by_flags())


def test_with_other_data_too() -> None:
    with pytest.raises(UsageError, match="step 3 was made with data set "):
        check_identity(taken(**identity()), identity(data=((X, (Y + 1) % 3), GOOD[1])))
