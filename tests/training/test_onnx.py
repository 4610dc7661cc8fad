"""ONNX, which the current line of TensorFlow exports, and the classic one refuses."""

import importlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.training_processes import Training, result
from trainer.training.results import exporting

CLASSIC = tf.__version__ < "2.18"
on_current = pytest.mark.skipif(CLASSIC, reason="the current line of TensorFlow alone: make test-current")


def answer(path: Path, **inputs: Any) -> list[Any]:
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert {each.name for each in session.get_inputs()} == set(inputs)
    return list(session.run(None, inputs))


@on_current
def test_a_run_exports_what_the_model_gives(training: Training, tmp_path: Path) -> None:
    training.run(f"--run_dir={tmp_path}", "--epochs=1", "--global_batch_size=64", "--export=onnx")
    assert result(tmp_path)["exports"] == {"onnx": "export/model.onnx"}
    images = np.random.default_rng(0).random((7, 28, 28), np.float32)
    model = keras.saving.load_model(tmp_path / "model.keras")
    (given,) = answer(tmp_path / "export" / "model.onnx", inputs=images)
    np.testing.assert_allclose(given, model(images), atol=1e-5)
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == ["model.onnx"]


@on_current
def test_several_inputs_and_outputs_have_their_names(tmp_path: Path) -> None:
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    both = keras.layers.Concatenate()([left, right])
    model = keras.Model(
        {"left": left, "right": right},
        {"sum": keras.layers.Dense(1, name="sum")(both), "kind": keras.layers.Dense(2, "softmax", name="kind")(both)},
    )
    x = {"left": tf.ones([5, 4]), "right": tf.zeros([5, 3])}
    written = exporting.write(model, x, ("onnx",), tmp_path, verbosity=0)
    found = answer(tmp_path / written["onnx"], left=np.ones((2, 4), np.float32), right=np.zeros((2, 3), np.float32))
    assert sorted(each.shape for each in found) == [(2, 1), (2, 2)]


@pytest.mark.skipif(not CLASSIC, reason="the classic line of TensorFlow alone: make test")
def test_the_classic_line_refuses_it_before_the_first_step(training: Training, tmp_path: Path) -> None:
    worker = training.start(f"--run_dir={tmp_path / 'run'}", "--export=onnx")
    assert worker.wait() == 64
    assert worker.lines[-1].startswith(
        f"error: --export=onnx: ONNX's packages do not run beside TensorFlow {tf.__version__}"
    )
    assert "progress" not in worker.text
