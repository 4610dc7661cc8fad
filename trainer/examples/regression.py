"""The energy use of rooms, by measurements and the kind of room: two inputs, sample weights, a loss of one's own.

The data are made here: use rises with the difference of temperatures and the area, times a factor of the kind of room.

    python -m trainer --experiment=trainer.examples.regression --epochs=10
"""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from trainer.core.settings import setting

MEASUREMENTS, KINDS = 4, 8  # Degrees inside, degrees outside, square metres, people; and kinds of room.
VALIDATION = 4_000
NOISE = 0.1  # Standard deviation of what no model can know, in kWh.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of this experiment, beside the trainer's own."""

    examples: int = setting(40_000, "rooms to train on", minimum=1)
    quantile: float = setting(0.5, "share of rooms whose use is to lie below the estimate", above=0.0, below=1.0)


@keras.saving.register_keras_serializable(package="trainer")
class Pinball(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types.
    """The loss whose minimum is a quantile: being too low costs `quantile` a unit, too high the rest of 1."""

    def __init__(self, quantile: float = 0.5, name: str = "pinball", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.quantile = quantile

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each example: float32 [batch], for float32 [batch, 1] both."""
        above = y_true - y_pred
        return ops.mean(ops.maximum(self.quantile * above, (self.quantile - 1.0) * above), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """For model.keras, and for telling one run's loss from another's."""
        return {**super().get_config(), "quantile": self.quantile}


def load_data(config: Any) -> tuple[Any, Any]:
    """Two triples (x, y, sample_weight), of training and validation."""
    return _rooms(config.examples, config.seed), _rooms(VALIDATION, config.seed + 1)


def build_model(config: Any) -> keras.Model:
    """The network, compiled."""
    measured = keras.Input((MEASUREMENTS,), name="measured")  # float32 [batch, 4]
    kind = keras.Input((), name="kind", dtype="int32")  # int32 [batch]
    hidden = layers.Concatenate()([measured, layers.Embedding(KINDS, 8)(kind)])
    for width in (64, 64):
        hidden = layers.Dense(width, "relu")(hidden)
    model = keras.Model({"measured": measured, "kind": kind}, layers.Dense(1)(hidden), name="rooms")
    model.compile(
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss=Pinball(config.quantile),
        weighted_metrics=[keras.metrics.MeanAbsoluteError(name="mae")],
    )
    return model


def _rooms(count: int, seed: int) -> tuple[dict[str, Any], Any, Any]:
    numbers = np.random.default_rng(seed)
    measured = numbers.normal(size=(count, MEASUREMENTS)).astype("float32")  # Each scaled to variance 1.
    kind = numbers.integers(0, KINDS, count, dtype="int32")
    inside, outside, area, people = measured.T
    use = (1 + kind / KINDS) * np.abs(inside - outside) * (2 + np.tanh(area)) / 3 - 0.2 * people
    use += numbers.normal(0.0, NOISE, count)
    weight = np.where(kind == 0, 3.0, 1.0)  # Rooms of kind 0 count three times.
    return {"measured": measured, "kind": kind}, use.astype("float32")[:, np.newaxis], weight.astype("float32")
