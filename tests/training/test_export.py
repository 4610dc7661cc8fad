"""A trained model in formats of other programs: each gives what the model gives, or the run says why it cannot."""

import contextlib
import errno
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.exported import experiment, finished, tflite
from tests.support.full_disk import no_room_beyond
from tests.support.training_processes import Training, result
from trainer.core import run_dir as names
from trainer.core.config import Config
from trainer.core.exit_codes import OutputError, UsageError
from trainer.training.data import idx_files
from trainer.training.results import exporting
from trainer.training.state.saving import ModelFile

TWO_OUTPUTS = """
import keras
import numpy as np

def load_data(config):
    rng = np.random.default_rng(0)
    x = {"left": rng.normal(size=(64, 3)), "right": rng.integers(0, 5, (64, 2))}
    y = {"sum": x["left"].sum(1, keepdims=True), "parity": x["right"].sum(1) % 2}
    return (x, y), (x, y)

def build_model(config):
    left, right = keras.Input((3,), name="left"), keras.Input((2,), dtype="int64", name="right")
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8)(left))
    both = keras.layers.Concatenate()([hidden, keras.layers.Flatten()(keras.layers.Embedding(5, 4)(right))])
    outputs = {"sum": keras.layers.Dense(1, name="sum")(both), "parity": keras.layers.Dense(2, name="parity")(both)}
    model = keras.Model({"left": left, "right": right}, outputs)
    losses = {"sum": "mse", "parity": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    model.compile(optimizer="adam", loss=losses)
    return model
"""
NOT_IN_TFLITE = """
import keras
from trainer.mnist import Flags, load_data, preprocess

def build_model(config):
    layers = [keras.Input((28, 28)), keras.layers.LSTM(4), keras.layers.Dense(10, activation="softmax")]
    return keras.Sequential(layers)
"""
WHOLE_NUMBERS_NOT_IN_TFLITE = """
import keras
from trainer.mnist import load_data, preprocess

def build_model(config):
    x = keras.Input((28, 28))
    return keras.Model(x, keras.layers.Dense(10, "softmax")(keras.layers.Lambda(odd)(keras.layers.Flatten()(x))))

def odd(x):
    return keras.ops.cast(keras.ops.bitwise_and(keras.ops.cast(x, "int32"), 1), "float32")
"""
LARGE = """
import keras
from trainer.mnist import load_data, preprocess

def build_model(config):  # 30 MB take a moment to be copied.
    x = keras.Input((28, 28))
    hidden = keras.layers.Dense(128)(keras.layers.Flatten()(x))
    both = keras.layers.Add()([hidden, keras.layers.Embedding(60_000, 128)(keras.ops.zeros_like(hidden[:, 0]))])
    return keras.Model(x, keras.layers.Dense(10, activation="softmax")(both))
"""


def test_each_format_gives_what_the_model_gives_and_training_is_as_without(
    training: Training, small_mnist: Path, tmp_path: Path
) -> None:
    plain = training.start(f"--run_dir={tmp_path / 'plain'}", "--epochs=1", "--global_batch_size=64")
    worker = training.start(
        f"--run_dir={tmp_path / 'run'}", "--epochs=1", "--global_batch_size=64", "--export=tflite,savedmodel"
    )
    finished(plain, worker)
    found = result(tmp_path / "run")
    assert found["exports"] == {"tflite": "export/model.tflite", "savedmodel": "export/saved_model"}
    assert found["weights_sha256"] == result(tmp_path / "plain")["weights_sha256"]
    assert "exports" not in result(tmp_path / "plain")
    assert not (tmp_path / "plain" / "export").exists()
    images = idx_files.load(str(small_mnist))[1][0].astype(np.float32) / 255
    expected = keras.models.load_model(tmp_path / "run" / "model.keras").predict(images, verbose=0)
    saved = tf.saved_model.load(str(tmp_path / "run" / "export" / "saved_model"))
    np.testing.assert_allclose(saved.signatures["serving_default"](inputs=images)["output_0"], expected, atol=1e-6)
    answer = tflite(tmp_path / "run" / "export" / "model.tflite", inputs=images)
    np.testing.assert_allclose(answer["output_0"], expected, atol=1e-5)
    assert not list((tmp_path / "run").glob(".tmp*"))


@pytest.mark.thorough
def test_several_inputs_and_outputs_of_two_workers_have_the_names_of_one(training: Training, tmp_path: Path) -> None:
    environ = experiment(tmp_path, TWO_OUTPUTS)
    flags = ("--experiment=exported", "--epochs=2", "--global_batch_size=16", "--export=savedmodel,tflite")
    finished(*training.start_workers(2, f"--run_dir={tmp_path / 'two'}", *flags, environ=environ))
    finished(training.start(f"--run_dir={tmp_path / 'one'}", *flags, environ=environ))
    inputs = {"left": np.ones((3, 3), np.float32), "right": np.ones((3, 2), np.int64)}
    for name in ("one", "two"):
        model = keras.models.load_model(tmp_path / name / "model.keras")
        expected = model.predict(inputs, verbose=0)
        saved = tf.saved_model.load(str(tmp_path / name / "export" / "saved_model")).signatures["serving_default"]
        tensors = {key: tf.constant(value) for key, value in inputs.items()}
        for answer in (saved(**tensors), tflite(tmp_path / name / "export" / "model.tflite", **inputs)):
            assert set(answer) == {"sum", "parity"}
            for key, value in answer.items():
                np.testing.assert_allclose(value, expected[key], atol=1e-5)


@pytest.mark.parametrize(
    ("text", "uses"),
    [(NOT_IN_TFLITE, "sequential uses tf.TensorList"), (WHOLE_NUMBERS_NOT_IN_TFLITE, "functional uses tf.BitwiseAnd,")],
)
def test_a_format_that_the_model_cannot_have_is_refused_before_the_first_step(
    training: Training, tmp_path: Path, text: str, uses: str
) -> None:
    environ = experiment(tmp_path, text)
    flags = ("--experiment=exported", f"--run_dir={tmp_path / 'run'}", "--export=savedmodel,tflite")
    workers = [training.start(*flags, environ=environ)]
    for worker in workers:
        assert worker.wait() == 64, worker.text
        assert not worker.progress
        assert worker.lines[-1].startswith(f"error: --export=savedmodel,tflite: the model {uses}")
        assert worker.lines[-1].endswith("leave that format out, or change the model")
        assert [part for part in ("loc(", "Details:", "TF Select") if part in worker.text] == []


@pytest.mark.parametrize(("text", "named"), [("savedmodel,pb", "'pb'"), (",", "','")])
def test_a_format_that_is_none_is_refused(text: str, named: str) -> None:
    with pytest.raises(UsageError, match=f"{named} is none of: savedmodel, tflite, onnx"):
        Config(export=text).check()


def test_a_kill_in_the_middle_leaves_nothing_half_written_and_is_made_good(training: Training, tmp_path: Path) -> None:
    flags = (f"--run_dir={tmp_path / 'run'}", "--epochs=1", "--global_batch_size=64", "--export=savedmodel,tflite")
    finished(training.start(*flags))
    (tmp_path / "run" / "result.json").unlink()  # As if it had been killed before it wrote it,
    (tmp_path / "run" / "export" / "model.tflite").unlink()  # between the two,
    left = tmp_path / "run" / ".tmp.export" / "export"  # while it made the second.
    left.mkdir(parents=True)
    (left / "model.tflite").write_bytes(b"half")
    worker = training.start(*flags)
    finished(worker)
    assert any("resuming at step 10 of 10" in line for line in worker.lines)
    assert tflite(tmp_path / "run" / "export" / "model.tflite", inputs=np.zeros((1, 28, 28), np.float32))
    assert not list((tmp_path / "run").glob(".tmp*"))
    assert names.final_files(tmp_path / "run") == [
        "export/model.tflite", "export/saved_model/fingerprint.pb", "export/saved_model/saved_model.pb",
        "export/saved_model/variables/variables.data-00000-of-00001", "export/saved_model/variables/variables.index",
        "model.keras", "report.html", "result.json",
    ]  # fmt: skip


@pytest.mark.thorough
def test_a_process_that_is_killed_while_it_writes_leaves_nothing_half_written(
    training: Training, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    environ = {**experiment(tmp_path, LARGE), "TMPDIR": str(tmp_path)}
    flags = ("--experiment=exported", f"--run_dir={run}", "--epochs=1", "--global_batch_size=64", "--export=savedmodel")
    worker = training.start(*flags, environ=environ)
    part = run / ".tmp.export"
    while not part.exists() and worker.process.poll() is None:  # It is there for a moment only.
        time.sleep(0.001)
    worker.kill()
    assert worker.wait() == -9, "it has ended before it was killed"
    assert part.exists(), "it was not killed in the middle"
    assert not (run / "result.json").exists()
    assert not (run / "export").exists()
    again = training.start(*flags, environ=environ)
    finished(again)
    assert any("resuming at step 10 of 10" in line for line in again.lines)
    assert "exported as savedmodel" in again.text
    assert tf.saved_model.load(str(run / "export" / "saved_model")).signatures["serving_default"]
    assert not list(run.glob(".tmp*"))


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    written = exporting.write(model, tf.ones([5, 3]), ("savedmodel",), tmp_path / "run [1] *", verbosity=0)
    assert written == {"savedmodel": "export/saved_model"}
    assert (tmp_path / "run [1] *" / "export" / "saved_model" / "saved_model.pb").exists()
    assert [path.name for path in (tmp_path / "run [1] *").iterdir()] == ["export"]


def test_where_a_run_has_no_room_for_an_export_the_first_cause_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(200), keras.layers.Dense(200)])
    make = exporting._make
    with contextlib.ExitStack() as full:

        def made(*given: Any) -> None:
            make(*given)
            full.enter_context(no_room_beyond(1000))  # What is made is to be brought to the run.

        monkeypatch.setattr(exporting, "_make", made)
        with pytest.raises(OSError, match="File too large") as refused:
            exporting.write(model, tf.ones([5, 3]), ("savedmodel",), tmp_path, verbosity=0)
    assert refused.value.strerror == "File too large"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "{{function_node …}} /tmp/…; No space left on device [Op:SaveV2]"),
    ],
)
def test_where_there_is_no_room_to_make_an_export_it_is_said(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It raises what a small disk made TensorFlow raise, which no limit on the size of files does."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(exporting, "_saved_and_loaded", fail)
    room = r"\(No space left on device\); make room, or name another folder by TMPDIR"
    said = rf"^--export=savedmodel: {tempfile.gettempdir()}, where it is made, cannot be written to {room}"
    with pytest.raises(OutputError, match=said):
        exporting.write(model, tf.ones([5, 3]), ("savedmodel",), tmp_path, verbosity=0)
    with pytest.raises(OutputError, match=said):
        exporting.try_out(model, tf.ones([5, 3]), ("savedmodel",), verbosity=0)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(
        keras.Model, "save", fail
    )  # It is not taken for a model that can be saved by its weights alone.
    with pytest.raises(OutputError, match=rf"^the model as a file: {tempfile.gettempdir()}, where it .* {room}"):
        ModelFile(model, compiled_by_flags=False)


def test_an_export_that_gives_other_numbers_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter is the real one, but for a bit more in its answer: no model is known that it gets wrong."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    run = exporting._run_tflite
    monkeypatch.setattr(
        exporting, "_run_tflite", lambda *given: {name: value + 0.01 for name, value in run(*given).items()}
    )
    with pytest.raises(
        exporting.ExportError, match=r"the tflite gives other numbers .* for 5 examples up to 0.01 apart"
    ):
        exporting.write(model, tf.ones([5, 3]), ("savedmodel", "tflite"), tmp_path, verbosity=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "taken"),
    [
        ("export/model.tflite", True), ("export/saved_model/saved_model.pb", True),
        ("export/saved_model/assets/words.txt", True), ("export/saved_model/../../model.keras", False),
        ("export/saved_model/.hidden", False), ("export/saved_model/a/b/c", False), ("export/saved_model/", False),
        ("export/other", False), ("export/saved_model/a\n", False), ("model.keras", False),
    ],
)  # fmt: skip
def test_names_in_an_output_lead_nowhere_else(key: str, taken: bool) -> None:
    assert names.is_exported(key) is taken
