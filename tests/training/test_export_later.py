"""`python -m trainer.export RUN`: the model of a run that has ended in other formats, built and fed as the run was."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.exported import experiment, finished, tflite
from tests.support.paths import ROOT
from tests.support.training_processes import Training
from trainer.core import export_formats, settings
from trainer.export import ExportFlags

SUBCLASSED = """
import keras
from trainer.mnist import Flags, load_data, preprocess

class Net(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.flatten, self.hidden = keras.layers.Flatten(), keras.layers.Dense(units)
        self.out = keras.layers.Dense(10, activation="softmax")

    def call(self, x):
        return self.out(self.hidden(self.flatten(x)))

def build_model(config):
    return Net(config.hidden_units)
"""
AS_THE_FLAGS_SAY = """
import dataclasses
import keras
from trainer.core.settings import setting
from trainer.mnist import load_data, preprocess

@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    units: tuple = setting((), "widths of the hidden layers")

class Net(keras.Model):
    def __init__(self, units):
        super().__init__()
        hidden = [keras.layers.Dense(int(width), "relu") for width in units]
        self.all = [keras.layers.Flatten(), *hidden, keras.layers.Dense(10, "softmax")]

    def call(self, x):
        for layer in self.all:
            x = layer(x)
        return x

def build_model(config):
    print("built with", *config.units, keras.config.dtype_policy().name, config.seed)
    return Net(config.units)
"""
KNOWN_TO_ITS_CODE_ALONE = """
import keras
from trainer.mnist import Flags, load_data, preprocess

class Scale(keras.layers.Layer):
    def build(self, shape):
        self.by = self.add_weight(shape=(), initializer="ones", name="by")

    def call(self, x):
        return x * self.by

def build_model(config):
    layers = [keras.layers.Lambda(lambda x: 2 * x), keras.layers.Flatten(), Scale(), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.Input((28, 28)), *layers])
    if config.hidden_units == 7:
        model.compile("adam", "sparse_categorical_crossentropy")
    return model
"""
CHANGING = """
import keras
from trainer.mnist import Flags, load_data, preprocess

def build_model(config):
    layers = [keras.layers.Flatten(), keras.layers.Dense(5, "KIND"), keras.layers.Dense(10, "softmax")]
    return keras.Sequential([keras.Input((28, 28)), *layers])
"""
FROM_A_SOURCE = """
import keras
import numpy as np

class Source:
    def __init__(self, seed):
        self.x = np.random.default_rng(seed).normal(size=(150, 4)).astype("float32")

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return self.x[row], np.int32(self.x[row].sum() > 0)

def load_data(config):
    if not config.data_dir:
        raise ValueError("it is not said where the data are")
    return Source(0), Source(1)

def build_model(config):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    return model
"""


def later(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer.export", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | (environ or {}), capture_output=True, text=True)


def test_later_from_a_run_of_which_only_the_weights_were_kept(
    training: Training, small_mnist: Path, tmp_path: Path
) -> None:
    environ = experiment(tmp_path, SUBCLASSED)
    run = tmp_path / "run"
    flags = ("--experiment=exported", "--epochs=1", "--global_batch_size=64", "--hidden_units=7", f"--run_dir={run}")
    finished(training.start(*flags, environ=environ))
    assert (run / "model.weights.h5").exists()
    whole = (run / "model.weights.h5").read_bytes()
    (run / "model.weights.h5").write_bytes(whole[:5000])
    done = later(str(run), "--", f"--data_dir={small_mnist}", environ=environ)
    assert (done.returncode, done.stderr[: len(f"error: {run}")]) == (65, f"error: {run}")
    assert "/model.weights.h5 is damaged (" in done.stderr
    (run / "model.weights.h5").write_bytes(whole)
    done = later(str(run), "--export=savedmodel,tflite", "--", f"--data_dir={small_mnist}", environ=environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"exported as savedmodel to {run}/export/saved_model; it gives what the model gives",
        f"exported as tflite to {run}/export/model.tflite; it gives what the model gives",
    ]
    assert tflite(run / "export" / "model.tflite", inputs=np.zeros((1, 28, 28), np.float32))["output_0"].shape == (
        1,
        10,
    )


def test_later_a_model_is_built_with_every_flag_of_its_run(training: Training, tmp_path: Path) -> None:
    environ, run = experiment(tmp_path, AS_THE_FLAGS_SAY), tmp_path / "run"
    own = ("--units=7", "--units=5", "--precision=bfloat16", "--seed=3")
    flags = ("--experiment=exported", "--epochs=1", "--global_batch_size=64", f"--run_dir={run}", *own)
    worker = training.start(*flags, environ=environ)
    finished(worker)
    built = "built with 7 5 mixed_bfloat16 3"
    assert built in worker.lines
    assert (run / "model.weights.h5").exists()
    done = later(str(run), "--export=savedmodel", environ=environ)
    assert done.returncode == 0, done.stderr
    assert built in done.stdout.splitlines()


@pytest.mark.parametrize("compiled", [True, False])
def test_later_a_model_that_keras_cannot_load_without_its_code(
    compiled: bool, training: Training, tmp_path: Path
) -> None:
    environ, run = experiment(tmp_path, KNOWN_TO_ITS_CODE_ALONE), tmp_path / "run"
    flags = ("--experiment=exported", "--epochs=1", f"--hidden_units={7 if compiled else 8}", f"--run_dir={run}")
    finished(training.start(*flags, "--export=savedmodel", environ=environ))
    assert (run / "model.keras").exists()
    done = later(str(run), f"--to={tmp_path / 'later'}", environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    x = tf.constant(np.random.default_rng(0).random((5, 28, 28)), tf.float32)
    at_once, later_on = (
        tf.saved_model.load(str(folder / "export" / "saved_model")).signatures["serving_default"](inputs=x)["output_0"]
        for folder in (run, tmp_path / "later")
    )
    np.testing.assert_array_equal(at_once, later_on)


@pytest.mark.thorough
def test_later_the_model_is_that_of_the_file_though_the_code_has_changed(training: Training, tmp_path: Path) -> None:
    environ, run = experiment(tmp_path, CHANGING.replace("KIND", "relu")), tmp_path / "run"
    flags = ("--experiment=exported", "--epochs=1", f"--run_dir={run}")
    finished(training.start(*flags, environ=environ))
    experiment(tmp_path, CHANGING.replace("KIND", "tanh"))
    done = later(str(run), environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    x = tf.constant(np.random.default_rng(0).random((5, 28, 28)), tf.float32)
    saved = tf.saved_model.load(str(run / "export" / "saved_model")).signatures["serving_default"]
    expected = keras.models.load_model(run / "model.keras").predict(x, verbose=0)
    np.testing.assert_allclose(saved(inputs=x)["output_0"], expected, atol=1e-5)


def test_its_help_names_every_format() -> None:
    assert all(name in settings.help_text(ExportFlags) for name in export_formats.PLACES)


@pytest.mark.thorough
def test_a_run_that_has_read_a_source_is_exported(training: Training, tmp_path: Path) -> None:
    environ, run = experiment(tmp_path, FROM_A_SOURCE), tmp_path / "run"
    flags = ("--experiment=exported", "--epochs=1", "--global_batch_size=16", f"--run_dir={run}")
    finished(training.start(*flags, "--export=savedmodel", environ=environ))
    done = later(str(run), "--export=tflite", environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    expected = keras.models.load_model(run / "model.keras").predict(x, verbose=0)
    saved = tf.saved_model.load(str(run / "export" / "saved_model")).signatures["serving_default"]
    for answer in (saved(inputs=tf.constant(x)), tflite(run / "export" / "model.tflite", inputs=x)):
        np.testing.assert_allclose(answer["output_0"], expected, atol=1e-5)


def test_later_what_is_no_run_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(
        json.dumps({"experiment": {"module": "trainer.mnist", "flagfile": "/etc/motd"}})
    )
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "result.json").write_text(json.dumps({"experiment": {"module": "..elsewhere"}}))
    for arguments, words in (
        ((str(tmp_path / "odd"),), "is damaged: '..elsewhere' is no module's name"),
        ((str(tmp_path / "nothing"),), "holds no result.json: name the folder of a run that has ended"),
        ((str(tmp_path),), "holds neither model.keras nor model.weights.h5"),
        ((), "takes a run directory or its address"),
        (("ftp://host/run",), "is no address of an object store"),
        ((str(tmp_path), "--to=gs://bucket/x"), "--to=gs://bucket/x is a folder of this machine"),
    ):
        done = later(*arguments)
        assert done.returncode == 64, done.stderr
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
