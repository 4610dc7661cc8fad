"""What is refused before the first step, in one line: a model, data or functions that do not fit."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.put_together import GOOD, X, Y, network, put_together
from trainer.core import experiment_flags
from trainer.core.config import Config
from trainer.core.exit_codes import DataError, TrainerError, UsageError
from trainer.core.settings import setting
from trainer.training.hardware import compiling
from trainer.training.model.experiment import load
from trainer.training.stepping import Stepping


def wrong_at(row: int, value: int, split: int = 0) -> Any:
    labels = Y.copy(), Y[:10].copy()
    labels[split][row] = value
    return (X, labels[0]), (X[:10], labels[1])


class OwnStep(keras.Model):
    """With a step that nobody would call."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


class Raises(keras.Model):
    """Whose call does not work."""

    def call(self, x: Any) -> Any:
        return keras.ops.reshape(x, (7, 7))


class MoreMetrics(keras.Model):
    """Whose compute_metrics gives what is no metric."""

    def __init__(self) -> None:
        super().__init__()
        self.out = keras.layers.Dense(3, "softmax")

    def call(self, x: Any) -> Any:
        return self.out(x)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().compute_metrics(x, y, y_pred, sample_weight) | {"spread": keras.ops.std(y_pred)}


class OwnVariable(keras.layers.Layer):
    """With state that Keras does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = [tf.Variable(0.0, name="seen")]

    def call(self, x: Any) -> Any:
        self.seen[0].assign_add(1.0)
        return x


class Hidden(keras.layers.Layer):
    """Whose weight a tf.function of its own hides."""

    def build(self, _: Any) -> None:
        self.w = self.add_weight(shape=(5, 5), name="w")

    @tf.function
    def inner(self, x: Any) -> Any:
        return x @ self.w.value

    def call(self, x: Any) -> Any:
        return self.inner(x)


class Unused(keras.layers.Layer):
    """With a weight that nothing depends on."""

    def build(self, _: Any) -> None:
        self.w = self.add_weight(shape=(5, 5), name="w")

    def call(self, x: Any) -> Any:
        return x


class Again(Unused):
    """Whose weight is hidden by keras.remat."""

    def call(self, x: Any) -> Any:
        return keras.remat(lambda x: keras.ops.matmul(x, self.w))(x)


class CountsInBranch(keras.layers.Layer):
    """Whose state is assigned in a branch."""

    def build(self, _: Any) -> None:
        self.n = self.add_weight(shape=(), initializer="zeros", trainable=False, name="n")

    def call(self, x: Any) -> Any:
        def counted() -> Any:
            self.n.assign(self.n + 1.0)
            return x * 2.0

        return keras.ops.cond(self.n < 5.0, counted, lambda: x)


class DrawsInLoop(keras.layers.Layer):
    """With a dropout in each round of a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = keras.layers.Dropout(0.5)

    def call(self, x: Any) -> Any:
        return keras.ops.fori_loop(0, 3, lambda _, x: self.dropout(x, training=True), x)


class NeedsMore(keras.optimizers.SGD):
    """An optimizer that cannot be built."""

    def build(self, variables: Any) -> None:
        super().build(variables)
        self.more = self.add_variable((), "no such initializer")


def between(layer: Any) -> Any:
    return compiled(keras.Sequential([keras.Input((5,)), layer, keras.layers.Dense(3, "softmax")]))


def compiled(model: Any) -> Any:
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def two_inputs() -> Any:
    inputs = {"a": keras.Input((5,), name="a")}
    return compiled(keras.Model(inputs, keras.layers.Dense(3, "softmax")(inputs["a"])))


def named_outputs(*, as_dict: bool = False) -> Any:
    """Two outputs, with losses by name."""
    x = keras.Input((5,))
    outputs = {"p": keras.layers.Dense(3, "softmax", name="p")(x), "q": keras.layers.Dense(1, name="q")(x)}
    model = keras.Model(x, outputs if as_dict else list(outputs.values()))
    model.compile("sgd", {"p": "sparse_categorical_crossentropy", "q": "mse"})
    return model


def by_name(other: str = "q", p: Any = Y) -> Any:
    return X, {"p": p, other: X[:, :1]}


def masked() -> Any:
    return np.ma.MaskedArray(X, mask=True)  # type: ignore[no-untyped-call]


def text() -> Any:
    layer = keras.layers.StringLookup(vocabulary=["0", "1"], output_mode="one_hot")
    lookup = keras.layers.Lambda(lambda x: layer(tf.strings.as_string(tf.cast(x[:, :1], tf.int32))))
    return compiled(keras.Sequential([keras.Input((5,)), lookup, keras.layers.Dense(3, "softmax")]))


def recurrent() -> Any:
    inputs = keras.Input(batch_shape=(8, 5, 1))
    hidden = keras.layers.LSTM(3, stateful=True)(inputs)
    return compiled(keras.Model(inputs, keras.layers.Dense(3, "softmax")(hidden)))


def own_step() -> Any:
    inputs = keras.Input((5,))
    return compiled(OwnStep(inputs, keras.layers.Dense(3, "softmax")(inputs)))


def shaken(x: Any, y: Any, *_: Any) -> Any:
    return x + tf.random.normal([5]), y


def twice(x: Any, y: Any, *_: Any) -> Any:
    return x * 2, y


def one_less(x: Any, y: Any, *_: Any) -> Any:
    return x, tf.maximum(y - 1, 0)


def out_of_reach(x: Any, y: Any, *_: Any) -> Any:
    return x[99, 99], y


def frozen() -> Any:
    model = network()
    model.trainable = False
    return model


def with_no_optimizer() -> Any:
    model = network()
    model.optimizer = object()
    return model


def nothing(*_: Any) -> None:
    """A preprocess that has forgotten its return."""


def leaves(_: Any) -> Any:
    sys.exit(3)


def raises(config: Any) -> Any:
    return {}[config.seed]


@pytest.mark.parametrize(
    ("error", "words", "parts"),
    [
        (DataError, "label 7 of example 3 of the training data", {"data": wrong_at(3, 7)}),
        (DataError, "label -1 of example 39 of the training data", {"data": wrong_at(39, -1)}),
        (DataError, "label 3 of example 9 of the validation data", {"data": wrong_at(9, 3, 1)}),
        (DataError, "label 7 of example 38 of the training data",
         {"data": wrong_at(38, 7), "preprocess": twice}),
        (DataError, "label 8 of example 38 of the training data",
         {"data": wrong_at(38, 9), "preprocess": one_less}),
        (DataError, "takes labels from 0 to 1, and that of example 2 of the training data is 2",
         {"model": lambda _: network(loss="binary_crossentropy"), "data": ((X, np.tile([[0], [1], [2], [1]], (10, 3))),
                                                                          None)}),
        (DataError, "(NaN)", {"data": ((X * np.nan, Y), None)}),
        (UsageError, "x[1] is None", {"data": (([X, None], Y), None)}),
        (UsageError, "holds datetime64[D]", {"data": ((np.full((40, 5), np.datetime64("2020-01-01")), Y), None)}),
        (UsageError, "x has b, which the model functional", {"model": lambda _: two_inputs(),
                                                             "data": (({"a": X, "b": X}, Y), None)}),
        (UsageError, "on the validation data", {"data": (GOOD[0], (X[:10], None))}),
        (UsageError, "--optimizer=adam is of a model that is not compiled", {"given": {"optimizer"}}),
        (UsageError, "--loss=crossentropy is of a model", {"given": {"loss", "epochs"}}),
        (UsageError, "in raises)", {"model": raises}),
        (UsageError, "it raised KeyError: 0 (test_refusals.py:", {"model": raises}),
        (UsageError, "optimizer identifier: adamm (put_together.py:", {"model": lambda _: network(optimizer="adamm")}),
        (UsageError, "the model raises cannot be run with x of float32 [", {"model": lambda _: compiled(Raises())}),
        (UsageError, "returns other values than the model's metrics have (spread)",
         {"model": lambda _: compiled(MoreMetrics())}),
        (UsageError, "preprocess cannot be run with x of float32 [",
         {"preprocess": out_of_reach}),
        (UsageError, "the tf.Variable seen", {"model": lambda _: compiled(
            keras.Sequential([keras.Input((5,)), OwnVariable(), keras.layers.Dense(3, "softmax")]))}),
        (UsageError, "Hidden.inner of the layer hidden is a tf.function",
         {"model": lambda _: between(Hidden())}),
        (UsageError, "again/w would not be trained: a keras.remat", {"model": lambda _: between(Again())}),
        (UsageError, "counts_in_branch/n is assigned in a branch of keras.ops.cond",
         {"model": lambda _: between(CountsInBranch())}),
        (UsageError, "draws random numbers in the body of a loop", {"model": lambda _: between(DrawsInLoop())}),
        (UsageError, "the optimizer NeedsMore cannot be run", {"model": lambda _: network(optimizer=NeedsMore())}),
        (DataError, "label 5 of example 3 of the training data is none of the model's 3 classes",
         {"model": lambda _: named_outputs(), "data": (by_name(p=np.where(np.arange(40) == 3, 5, Y)), None)}),
        (UsageError, "y of the training data has p, r, and the outputs of the model",
         {"model": lambda _: named_outputs(), "data": (by_name("r"), None)}),
        (UsageError, "sample_weight of the training data has p, r, and the outputs",
         {"model": lambda _: named_outputs(as_dict=True), "data": ((*by_name(), {"p": Y * 1.0, "r": Y * 1.0}), None)}),
        (UsageError, "preprocess returned NoneType", {"preprocess": nothing}),
        (UsageError, "ended the process by exit(3)", {"model": leaves}),
        (UsageError, "Invalid input shape for input […]", {"data": ((X.reshape(20, 10, 1, 1).repeat(9, 2), Y[:20]),
                                                                     None)}),
        (UsageError, "returned None; expected a Keras model", {"model": lambda _: None}),
        (UsageError, "returned a Dense; expected a Keras model", {"model": lambda _: keras.layers.Dense(3)}),
        (UsageError, "OwnStep has a train_step of its own", {"model": lambda _: own_step()}),
        (UsageError, "run_eagerly=True", {"model": lambda _: network(run_eagerly=True)}),
        (UsageError, "compiled with jit_compile=False", {"model": lambda _: network(jit_compile=False),
                                                         "jit_compile": "true"}),
        (UsageError, "the layer lstm is stateful", {"model": lambda _: recurrent(), "data": ((X[..., None], Y), None)}),
        (UsageError, "the layer string_lookup computes with text", {"model": lambda _: between(
            keras.layers.StringLookup(vocabulary=["a"]))}),
        (UsageError, "unexpected keyword argument 'callbacks'", {"model": lambda _: network(callbacks=[])}),
        (UsageError, "none of Keras'; use one of keras.optimizers", {"model": lambda _: with_no_optimizer()}),
        (UsageError, "draws random numbers by RandomStandardNormal", {"preprocess": shaken}),
        (UsageError, "cannot be run with x of float32 [8, 4]", {"data": ((X[:, :4], Y), None)}),
        (UsageError, "training x is a masked array", {"data": ((masked(), Y), None)}),
        (UsageError, "holds text, which a compiled step", {"data": ((np.array(["a"] * 40), Y), None)}),
        (UsageError, "training data is a generator", {"data": ((row for row in X), None)}),
        (UsageError, "load_data returned a tuple; expected two", {"data": (*GOOD, GOOD[1])}),
        (UsageError, "has no weights that are trained", {"model": lambda _: frozen()}),
        (UsageError, "Could not interpret loss identifier: none such", {"model": lambda _: network(loss="none such")}),
        (UsageError, "is more than the 4 training examples", {"data": ((X[:4], Y[:4]), None)}),
        (DataError, "y holds 39 examples, load_data's training x holds 40", {"data": ((X, Y[:39]), None)}),
        (DataError, "weights holds 40 value(s) that are not a number", {"data": ((X, Y, X[:, 0] * np.nan), None)}),
        (DataError, "examples of [5], the validation data has [4]", {"data": (GOOD[0], (X[:10, :4], Y[:10]))}),
        (DataError, "takes whole numbers as labels, and there is 0.5", {"data": ((X, Y + 0.5), None)}),
        (UsageError, "looks up text", {"model": lambda _: text()}),
        (UsageError, "a metric is called epochs, as another field of result.json is; give it another name",
         {"model": lambda _: network(metrics=[keras.metrics.SparseCategoricalAccuracy("epochs")])}),
        (UsageError, "load_data ended the process by exit(0); raise", {"load_data": lambda _: sys.exit(0)}),
    ],
)  # fmt: skip
def test_refused_in_one_line(error: type[TrainerError], words: str, parts: dict[str, Any]) -> None:
    with pytest.raises(error) as refusal:
        put_together(**parts)
    said = str(refusal.value)
    assert words in said
    for noise in ("\n", "\x1b", "{{", "Arguments received", "in user code"):
        assert noise not in said, said


class FailsInTraining(keras.layers.Layer):
    """Which is found out by running a step, not by looking at it."""

    def call(self, x: Any, training: bool = False) -> Any:
        with tf.control_dependencies([tf.debugging.assert_less(x, 0.0, "less than nothing")] if training else []):
            return x * 1.0


def test_a_first_step_that_fails_is_said_in_one_line(tmp_path: Path) -> None:
    parts = put_together(model=lambda _: between(FailsInTraining()))
    parts.trainer.start_epoch(0)
    with pytest.raises(UsageError, match=r"the first step cannot be run: .*less than nothing") as refusal:
        Stepping(parts.trainer, Config(), tmp_path, chief=True).run(0, 1, parts.trainer.scores.start())
    assert "\n" not in str(refusal.value)
    assert "{{node" not in str(refusal.value)


def test_the_users_own_code_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError):
        put_together(model=raises)
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):\n")
    assert "return {}[config.seed]\n" in said
    assert "assembly.py" not in said


def test_a_flag_that_build_model_reads_is_honoured() -> None:
    parts = put_together(
        model=lambda config: network(optimizer=keras.optimizers.SGD(config.learning_rate)),
        given={"learning_rate"}, learning_rate=0.25,
    )  # fmt: skip
    assert float(parts.model.optimizer.learning_rate) == 0.25


@pytest.mark.parametrize("code", ["import sys\nsys.exit(0)", "import argparse\nargparse.ArgumentParser().parse_args()"])
def test_an_experiment_that_exits_cannot_be_imported(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "it_exits.py").write_text(f"{code}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["trainer", "--experiment=it_exits"])
    with pytest.raises(UsageError, match=r"^--experiment=it_exits cannot be imported: it ended the process by exit\("):
        load("it_exits")


@pytest.mark.parametrize(
    ("function", "count"),
    [("def build_model(): ...", 1), ("def preprocess(x, y): ...", 4), ("def load_data(a, b): ...", 1)],
)
def test_a_function_that_does_not_take_what_it_is_given(
    function: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"takes_other_{count}_{len(function)}"
    (tmp_path / f"{name}.py").write_text(f"def load_data(config): ...\ndef build_model(config): ...\n{function}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=rf"is called with {count} argument\(s\) and does not take them"):
        load(name)


@pytest.mark.parametrize("name", ["check", "own_flags", "epochs", "help"])
def test_a_flag_of_the_experiment_with_a_name_that_is_taken(name: str) -> None:
    flags = dataclasses.make_dataclass("Flags", [(name, int, setting(3, "mine"))], frozen=True, kw_only=True)
    with pytest.raises(UsageError, match=f"--{name} has the name of one of the trainer's own"):
        experiment_flags.with_flags(flags)


def test_a_weight_that_nothing_depends_on_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """As Keras does, which trains the others."""
    put_together(model=lambda _: between(Unused()))
    assert "the loss does not depend on" in caplog.text
    assert "unused" in caplog.text


def test_a_model_from_a_file_says_nothing_of_xla(tmp_path: Path) -> None:
    """Keras writes into it what it chose itself."""
    network().save(tmp_path / "model.keras")
    parts = put_together(model=lambda _: keras.models.load_model(tmp_path / "model.keras"), jit_compile="true")
    assert parts.trainer.jit_compile


def test_an_optimizer_that_does_not_end_as_fit_does_says_so(caplog: pytest.LogCaptureFixture) -> None:
    put_together(model=lambda _: network(optimizer=keras.optimizers.ScheduleFreeAdamW()))
    assert "ScheduleFreeAdamW is computed as published" in caplog.text


@pytest.mark.parametrize(("flag", "compiled"), [("true", None), ("true", True), ("auto", True)])
def test_xla_that_was_asked_for_is_not_left_out_for_synchronized_layers(flag: str, compiled: bool | None) -> None:
    """Alone they ask nobody."""
    assert compiling.asked_of_xla(flag, compiled, synchronized=False)
    with pytest.raises(UsageError, match="leave --jit_compile=true, or compile's jit_compile=True, or"):
        compiling.asked_of_xla(flag, compiled, synchronized=True)
    assert not compiling.asked_of_xla("auto", None, synchronized=True)


def test_xla_that_nobody_asked_for_is_left_out_with_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorFlow is told of a GPU: no test machine has two."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["a GPU"])
    assert compiling.asked_of_xla("auto", None, synchronized=False)
    assert not compiling.asked_of_xla("auto", None, synchronized=True)
    assert capsys.readouterr().out.startswith("XLA does not compile the steps: synchronized layers ask")
