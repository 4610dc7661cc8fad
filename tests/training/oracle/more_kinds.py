"""More kinds of models: what is measured, state beside the weights, optimizers that do more, layers that prepare."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.training.oracle.kinds import (
    EXAMPLES,
    VALIDATION,
    Kind,
    binary,
    by_name,
    classes,
    compiled,
    dense,
    images,
    random,
    regression,
    sequence_model,
    sequences,
    several,
    with_optimizer,
)


@keras.saving.register_keras_serializable()
class CountsCalls(layers.Layer):
    """Assigns state in every call, also where nothing is trained."""

    def build(self, _: Any) -> None:
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x: Any) -> Any:
        self.calls.assign(self.calls + 1)
        return x


@keras.saving.register_keras_serializable()
class Least(keras.metrics.Metric):
    """The least prediction: starts at infinity."""

    def __init__(self, name: str = "least", **more: Any) -> None:
        super().__init__(name=name, **more)
        self.least = self.add_weight(shape=(), initializer=keras.initializers.Constant(np.inf), name="value")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.least.assign(ops.minimum(self.least, ops.min(y_pred)))

    def reset_state(self) -> None:
        self.least.assign(np.inf)

    def result(self) -> Any:
        return self.least + 0.0  # A variable would be read by Keras after validation.


@keras.saving.register_keras_serializable()
class MergedLeast(Least):
    """The same, which says how several workers merge it."""

    def merge_replicas(self, states: Any) -> Any:
        return {"value": ops.min(states["value"], axis=0)}


@keras.saving.register_keras_serializable()
class StartsAtTen(keras.metrics.Metric):
    """A sum that begins with 10."""

    def __init__(self, name: str = "from_ten", **more: Any) -> None:
        super().__init__(name=name, **more)
        self.total = self.add_weight(shape=(), initializer="zeros", name="total")
        self.reset_state()

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.total.assign(self.total + ops.sum(y_pred))

    def reset_state(self) -> None:
        self.total.assign(10.0)

    def result(self) -> Any:
        return self.total + 0.0


@keras.saving.register_keras_serializable()
def root_of_batch(y_true: Any, y_pred: Any) -> Any:
    return ops.sqrt(ops.mean(ops.square(y_true - y_pred)))


@keras.saving.register_keras_serializable()
class OwnMetrics(keras.Model):
    """Measures in compute_metrics, and one more by a metric of its own."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.out = layers.Dense(1)
        self.largest = keras.metrics.Mean(name="size")

    def call(self, x: Any) -> Any:
        return self.out(x)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        self.largest.update_state(ops.abs(y_pred))
        return super().compute_metrics(x, y, y_pred, sample_weight)


@keras.saving.register_keras_serializable()
class TrainingLoss(keras.Model):
    """A loss that is another one in training."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.out = layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.out(x)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        each = ops.square(y_pred - y)
        return 0.01 * ops.sum(each) if training else ops.mean(each)


@keras.saving.register_keras_serializable()
class AddsLossInTraining(layers.Layer):
    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.add_loss(0.01 * ops.sum(ops.square(x)))
        return x


@keras.saving.register_keras_serializable()
class MeasuresInside(layers.Layer):
    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.inside = keras.metrics.Mean(name="inside")

    def call(self, x: Any) -> Any:
        self.inside.update_state(ops.mean(x, axis=-1))
        return x


def with_labels_to_ignore() -> Any:
    (x, y), (val_x, val_y) = classes()
    y[::5], val_y[::3] = -1, -1
    return (x, y), (val_x, val_y)


def pairs() -> Any:
    def make(examples: int, seed: int) -> Any:
        left, right = (random(seed + 20 * side).normal(size=(examples, 3)).astype("float32") for side in (0, 1))
        y = {"sum": (left + right).sum(1, keepdims=True), "sign": (left.sum(1) > 0).astype("int32")}
        weights = {
            "sum": random(seed + 3).uniform(0.5, 2, examples).astype("float32"),
            "sign": random(seed + 4).uniform(0.5, 2, examples).astype("float32"),
        }
        return {"in": {"left": left, "right": right}}, y, weights

    return make(EXAMPLES, 1), make(VALIDATION, 2)


def pair_model() -> Any:
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    shared = layers.Dense(5, "tanh")
    merged = ops.concatenate([shared(left), shared(right) * 2.0], axis=-1)
    outputs = {"sum": layers.Dense(1, name="sum")(merged), "sign": layers.Dense(1, "sigmoid", name="sign")(merged)}
    return keras.Model({"in": {"left": left, "right": right}}, outputs)


def whole_numbers() -> Any:
    def make(examples: int, seed: int) -> Any:
        x = random(seed).integers(0, 12, (examples, 1)).astype("int32")
        return x, (x[:, 0] % 3).astype("uint8")

    return make(EXAMPLES, 1), make(VALIDATION, 2)


def in_two_halves() -> Any:
    model = dense()
    first, second = keras.optimizers.SGD(0.1, momentum=0.5), keras.optimizers.Adam(0.01)
    early = {weight.path for weight in model.layers[0].trainable_variables}
    return compiled(
        model, keras.optimizers.MultiOptimizer(lambda variable: first if variable.path in early else second)
    )


def low_rank() -> Any:
    model = dense()
    model.layers[0].enable_lora(2)
    return compiled(model)


@keras.saving.register_keras_serializable()
class AddsDifference(layers.Layer):
    def call(self, both: Any) -> Any:
        self.add_loss(ops.mean(ops.square(both[0] - both[1])))
        return both[1]


def autoencoder() -> Any:
    x = keras.Input((6,))
    return keras.Model(x, AddsDifference()([x, layers.Dense(6)(layers.Dense(3, "tanh")(x))]))


def least(metric: Any) -> Any:
    return compiled(dense(1, 5, None), loss="mse", metrics=[metric])


LESS_COMMON: dict[str, Kind] = {
    "state assigned in every call": Kind(
        data=classes,
        model=lambda: compiled(
            keras.Sequential([keras.Input((6,)), CountsCalls(), layers.Dense(4, "softmax")]), metrics=[MergedLeast()]
        ),
    ),
    "a least value": Kind(data=regression, model=lambda: least(Least()), replicas=False),
    "a least value that says how it is merged": Kind(data=regression, model=lambda: least(MergedLeast())),
    "a sum that begins with ten": Kind(data=regression, model=lambda: least(StartsAtTen()), tolerance=2e-5),
    "a metric of each batch": Kind(
        data=regression, model=lambda: compiled(dense(1, 5, None), loss="mse", metrics=[root_of_batch]), replicas=False
    ),
    "own compute_metrics": Kind(data=regression, model=lambda: compiled(OwnMetrics(), loss="mse", metrics=["mae"])),
    "own compute_loss, another in training": Kind(data=regression, model=lambda: compiled(TrainingLoss(), loss=None)),
    "added loss in training alone": Kind(
        data=classes,
        model=lambda: compiled(
            keras.Sequential([keras.Input((6,)), layers.Dense(5), AddsLossInTraining(), layers.Dense(4, "softmax")])
        ),
    ),
    "a metric inside of a layer": Kind(
        data=classes,
        model=lambda: compiled(keras.Sequential([keras.Input((6,)), MeasuresInside(), layers.Dense(4, "softmax")])),
    ),
    "circle loss": Kind(
        data=classes,
        model=lambda: compiled(
            keras.Sequential([keras.Input((6,)), layers.Dense(5), layers.UnitNormalization()]),
            keras.optimizers.SGD(0.001),
            keras.losses.Circle(),
        ),
        replicas=False,
        tolerance=1e-4,
    ),
    "a class to ignore": Kind(
        data=with_labels_to_ignore,
        model=lambda: compiled(dense(), loss=keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)),
    ),
    "nested dicts, weights an output": Kind(
        data=pairs,
        model=lambda: compiled(
            pair_model(),
            "adam",
            {"sum": "huber", "sign": "binary_crossentropy"},
            weighted_metrics={"sign": [keras.metrics.AUC(num_thresholds=20)], "sum": ["mse"]},
        ),
    ),
    "an output without a loss": Kind(
        data=lambda: tuple((x, {"sum": y["sum"], "sign": y["sign"]}) for x, y, _ in pairs()),
        model=lambda: compiled(pair_model(), "adam", {"sum": "mse", "sign": None}),
    ),
    "whole numbers looked up": Kind(
        data=whole_numbers,
        model=lambda: compiled(
            keras.Sequential(
                [
                    keras.Input((1,), dtype="int32"),
                    layers.IntegerLookup(vocabulary=list(range(10)), output_mode="one_hot"),
                    layers.Dense(3, "softmax"),
                ]
            )
        ),
        xla=False,
    ),
    "whole numbers as categories": Kind(
        data=whole_numbers,
        model=lambda: compiled(
            keras.Sequential(
                [keras.Input((1,), dtype="int32"), layers.CategoryEncoding(12), layers.Dense(3, "softmax")]
            )
        ),
        xla=False,
    ),
    "both directions, with a mask": Kind(
        data=sequences, model=lambda: compiled(sequence_model(layers.Bidirectional(layers.GRU(4))))
    ),
    "normalizations": Kind(
        data=images,
        model=lambda: compiled(
            keras.Sequential(
                [
                    keras.Input((8, 8, 1)),
                    layers.Rescaling(1 / 255),
                    layers.Conv2D(4, 3, activation="gelu"),
                    layers.GroupNormalization(2),
                    layers.SeparableConv2D(4, 3),
                    layers.UnitNormalization(),
                    layers.Conv2DTranspose(2, 2),
                    layers.GlobalMaxPooling2D(),
                    layers.Dense(2, "softmax"),
                ]
            )
        ),
    ),
    "spectral normalization": Kind(
        data=classes,
        model=lambda: compiled(
            keras.Sequential(
                [keras.Input((6,)), layers.SpectralNormalization(layers.Dense(8)), layers.Dense(4, "softmax")]
            )
        ),
        replicas=False,
    ),
    "low rank": Kind(data=classes, model=low_rank),
    "true and false": Kind(
        data=lambda: tuple((x > 0, y) for x, y in binary()),
        model=lambda: compiled(
            keras.Sequential([keras.Input((5,), dtype="bool"), layers.Dense(6, "relu"), layers.Dense(1, "sigmoid")]),
            loss="binary_focal_crossentropy",
        ),
    ),
    "two optimizers": Kind(data=classes, model=in_two_halves),
    "muon": with_optimizer(lambda: keras.optimizers.Muon(0.01)),
    "lamb": with_optimizer(lambda: keras.optimizers.Lamb(0.01)),
    "adadelta": with_optimizer(lambda: keras.optimizers.Adadelta(0.5)),
    "adamax": with_optimizer(lambda: keras.optimizers.Adamax(0.01)),
    "rmsprop, centered": with_optimizer(lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True)),
    "scaled loss": with_optimizer(
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=4, dynamic_growth_steps=5)
    ),
    "dicts for a model of lists": Kind(data=lambda: several("dict"), model=by_name),
    "no reduction": Kind(
        data=regression,
        model=lambda: compiled(
            dense(1, 5, None), keras.optimizers.SGD(1e-3), keras.losses.MeanSquaredError(reduction=None)
        ),
        replicas=False,
    ),
    "no labels, the layers' losses alone": Kind(
        data=lambda: tuple((x, None) for x, _ in classes()), model=lambda: compiled(autoencoder(), loss=None)
    ),
}


def moved(x: Any, y: Any, seed: Any, training: bool) -> Any:
    """Each example with noise of its own."""
    return (x + 0.5 * tf.random.stateless_normal(x.shape, seed) if training else x), y


OURS_ALONE: dict[str, Kind] = {
    "augmented": Kind(data=classes, model=lambda: compiled(dense(), metrics=["accuracy"]), preprocess=moved),
}
