"""--mode=evaluate and --mode=predict: the same numbers by any number of workers, whatever is killed meanwhile."""

import contextlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from pyarrow import parquet

from tests.support import full_disk
from tests.support.training_processes import Training, result
from trainer.core.config import Config
from trainer.core.exit_codes import DataError, UsageError
from trainer.training import cli
from trainer.training.data import idx_files
from trainer.training.results import prediction_files
from trainer.training.state import trained_model

FLAGS = ("--experiment=tests.experiments.paced", "--epochs=2", "--global_batch_size=64", "--hidden_units=32")
ALL = "--data_dir="  # The 10,000 examples of the package, ten batches.
TWO_OUTPUTS = """
import keras
import numpy as np

def load_data(config):
    x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    y = {"sign": (x[:, 0] > 0).astype("int32"), "sums": x[:, :2]}
    return (x[:50], {name: one[:50] for name, one in y.items()}), (x[50:], {name: one[50:] for name, one in y.items()})

def build_model(config):
    x = keras.Input((4,))
    outputs = {"sign": keras.layers.Dense(1, "sigmoid")(x)[:, 0], "sums": keras.layers.Dense(2)(x)}
    model = keras.Model(x, outputs)
    model.compile("adam", {"sign": "binary_crossentropy", "sums": "mse"})
    return model
"""

OF_ITS_OWN = """
import dataclasses

import keras
import numpy as np

from trainer.core.settings import setting

@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    examples: int = setting(20, "how many there are")

def load_data(config):
    data = np.ones((config.examples, 4), np.float32), np.zeros(config.examples, np.float32)
    return data, data

def build_model(config):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model
"""
READ_BY_SEVERAL = """
import threading

import keras
import numpy as np

HEAD, EXAMPLES = 48, 1500  # The first are looked at before anything is computed.
READING, MET = set(), threading.Event()

class Source:
    \"\"\"Beyond its head nothing is read until two threads want to.\"\"\"

    def __init__(self, seed, waits):
        self.x, self.waits = np.random.default_rng(seed).normal(size=(EXAMPLES, 4)).astype("float32"), waits

    def __len__(self):
        return EXAMPLES

    def __getitem__(self, row):
        if self.waits and row >= HEAD and not MET.is_set():
            READING.add(threading.get_ident())
            if len(READING) > 1:
                MET.set()
            assert MET.wait(20), "one example is read after another"
        return self.x[row], np.int32(self.x[row].sum() > 0)

def load_data(config):
    return Source(0, False), Source(1, True)

def build_model(config):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    return model
"""


@pytest.fixture(scope="module")
def trained(small_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    training = Training([f"--data_dir={small_mnist}", "--threads=1"])
    training.run(f"--run_dir={run_dir}", *FLAGS)
    training.close()
    return run_dir


@pytest.fixture(scope="module")
def predicted(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The outputs for all examples, by one worker."""
    run_dir = tmp_path_factory.mktemp("predicted") / "run"
    training = Training(["--threads=1"])
    training.run("--mode=predict", f"--model={trained}", f"--run_dir={run_dir}", ALL)
    training.close()
    return np.load(run_dir / "predictions.npy")


def evaluate(training: Training, run_dir: Path, model: Path, *flags: str, count: int = 1) -> dict[str, Any]:
    training.run("--mode=evaluate", f"--model={model}", f"--run_dir={run_dir}", *flags, count=count)
    return result(run_dir)


def test_a_result_names_a_model_and_has_no_say_in_what_this_run_does(tmp_path: Path) -> None:
    """It may lie in a bucket, which others write."""
    ours = {"run_dir": "/x", "data_cache": "/x", "mode": "train", "model": "/x", "flagfile": "/etc/passwd", "help": ""}
    said = {
        "flags": {"seed": 3, "data_cache": "/x", "run_dir": "/x"},
        "experiment": {"module": "trainer.mnist", "hidden_units": 7, **ours},
    }
    (tmp_path / "result.json").write_text(json.dumps(said))
    assert trained_model.flags(str(tmp_path)) == ["--seed=3", "--experiment=trainer.mnist", "--hidden_units=7"]


@pytest.mark.parametrize("module", ["..x", "a/b", "", 5, None, ["os"]])
def test_what_is_no_modules_name_is_not_imported(tmp_path: Path, module: Any) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"experiment": {"module": module}}))
    with pytest.raises(UsageError, match="is no module's name"):
        trained_model.flags(str(tmp_path))


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[]", b'{"mode": {}}', b"\xff", b"1" * 5000])
def test_a_damaged_result_is_nobodys_mode(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "result.json").write_bytes(content)
    cli._check_mode(tmp_path, "evaluate")


def test_it_measures_what_training_has_measured(training: Training, trained: Path, tmp_path: Path) -> None:
    said, expected = evaluate(training, tmp_path / "one", trained), result(trained)
    for name in ("val_loss", "val_accuracy", "weights_sha256", "experiment"):
        assert said[name] == expected[name]
    assert (said["mode"], said["workers"], said["model"]) == ("evaluate", 1, str(trained))
    two = evaluate(training, tmp_path / "two", trained / "model.keras", count=2)
    assert two["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-6)
    assert (two["val_accuracy"], two["weights_sha256"]) == (expected["val_accuracy"], expected["weights_sha256"])


def test_other_data_are_measured_if_they_are_named(
    training: Training, trained: Path, predicted: Any, tmp_path: Path
) -> None:
    said = evaluate(training, tmp_path, trained, ALL)
    labels = idx_files.load("")[1][1]
    assert said["val_accuracy"] == pytest.approx(float(np.mean(predicted.argmax(1) == labels)), abs=1e-6)
    assert said["val_accuracy"] != result(trained)["val_accuracy"]


def test_flags_of_the_runs_own_experiment_are_known_without_naming_it(training: Training, tmp_path: Path) -> None:
    (tmp_path / "of_its_own.py").write_text(OF_ITS_OWN)
    environ, run = {"PYTHONPATH": str(tmp_path)}, tmp_path / "run"
    first = training.start("--experiment=of_its_own", "--examples=40", "--epochs=1", "--global_batch_size=8",
                           f"--run_dir={run}", environ=environ)  # fmt: skip
    assert first.wait() == 0, first.text
    common = ("--mode=predict", f"--model={run}")
    started = [
        training.start(*common, "--examples=30", f"--run_dir={tmp_path / 'a'}", environ=environ),
        training.start(*common, f"--run_dir={tmp_path / 'b'}", environ=environ),
        training.start(*common, "--exampels=30", f"--run_dir={tmp_path / 'c'}", environ=environ),
        training.start(*common, "--help", environ=environ),
    ]
    assert [worker.wait() for worker in started] == [0, 0, 64, 0], "\n".join(worker.text for worker in started)
    assert [len(np.load(tmp_path / name / "predictions.npy")) for name in "ab"] == [30, 40]
    assert "Unknown command line flag 'exampels'. Did you mean: examples ?" in started[2].text
    assert not (tmp_path / "c").exists()
    assert "--examples (default: 20)" in started[3].text


def test_outputs_are_those_of_keras_in_the_order_of_the_data(trained: Path, predicted: Any) -> None:
    images = idx_files.load("")[1][0]
    with keras.saving.custom_object_scope({"Pace": keras.layers.Identity, "Custom>Pace": keras.layers.Identity}):
        model = keras.models.load_model(trained / "model.keras", compile=False)
    assert predicted.shape == (10000, 10)
    assert predicted.dtype == np.float32
    assert np.allclose(predicted, model.predict(images / 255, verbose=0), atol=1e-6)


def test_kills_and_the_number_of_workers_change_no_bit(
    training: Training, trained: Path, predicted: Any, tmp_path: Path
) -> None:
    flags = ("--mode=predict", f"--model={trained}", f"--run_dir={tmp_path}", ALL)
    for victim in (1, 0):
        workers = training.start_workers(2, *flags, environ={"PACE": "0.3"})
        workers[0].wait_for_step(4)
        workers[victim].kill()
        assert workers[victim].wait() == -9
        assert workers[1 - victim].wait() in (75, -6), workers[1 - victim].text
        assert not (tmp_path / "predictions.npy").exists()
    training.run(*flags, count=3)
    assert np.array_equal(np.load(tmp_path / "predictions.npy"), predicted)
    assert result(tmp_path)["outputs"] == {"file": str(tmp_path / "predictions.npy"), "examples": 10000}
    (again,) = training.run(*flags)
    assert "holds a finished run; nothing to do" in again.text


def test_a_parquet_file_holds_the_same(training: Training, trained: Path, tmp_path: Path) -> None:
    common = ("--mode=predict", f"--model={trained}")
    training.run(*common, f"--run_dir={tmp_path / 'npy'}")
    path = tmp_path / "elsewhere" / "mine.parquet"
    training.run(*common, f"--run_dir={tmp_path / 'parquet'}", f"--to={path}", count=2)
    rows = np.array(parquet.read_table(path)["output"].to_pylist(), np.float32)
    assert np.array_equal(rows, np.load(tmp_path / "npy" / "predictions.npy"))
    assert result(tmp_path / "parquet")["outputs"] == {"file": str(path), "examples": 200}


def test_several_outputs_are_columns(training: Training, tmp_path: Path) -> None:
    (tmp_path / "two_outputs.py").write_text(TWO_OUTPUTS)
    environ, run_dir = {"PYTHONPATH": str(tmp_path)}, tmp_path / "run"
    first = training.start(
        "--experiment=two_outputs", "--global_batch_size=10", f"--run_dir={run_dir}", environ=environ
    )
    assert first.wait() == 0, first.text
    common = ("--mode=predict", f"--model={run_dir}")  # What was trained the run itself says.
    worker = training.start(*common, f"--run_dir={tmp_path / 'a'}", "--to=predictions.parquet", environ=environ)
    assert worker.wait() == 0, worker.text
    table = parquet.read_table(tmp_path / "a" / "predictions.parquet")
    assert table.column_names == ["sign", "sums"]
    assert [len(row) for row in table["sums"].to_pylist()] == [2] * 10
    assert all(0 < value < 1 for value in table["sign"].to_pylist())
    refused = training.start(*common, f"--run_dir={tmp_path / 'b'}", environ=environ)
    assert refused.wait() == 64
    assert "holds one array, and the model has the outputs sign, sums; name a .parquet file" in refused.text


def test_the_outputs_of_a_source_are_those_of_its_rows_which_are_read_ahead(training: Training, tmp_path: Path) -> None:
    (tmp_path / "read_by_several.py").write_text(READ_BY_SEVERAL)
    environ, run_dir = {"PYTHONPATH": str(tmp_path)}, tmp_path / "run"
    first = training.start("--experiment=read_by_several", "--epochs=1", f"--run_dir={run_dir}", environ=environ)
    assert first.wait() == 0, first.text
    for count in (1, 2):
        flags = ("--mode=predict", f"--model={run_dir}", f"--run_dir={tmp_path / str(count)}")
        started = (
            [training.start(*flags, environ=environ)]
            if count == 1
            else training.start_workers(count, *flags, environ=environ)
        )
        assert [worker.wait() for worker in started] == [0] * count, started[0].text
    outputs = np.load(tmp_path / "1" / "predictions.npy")
    assert np.array_equal(outputs, np.load(tmp_path / "2" / "predictions.npy"))
    x = np.random.default_rng(1).normal(size=(1500, 4)).astype("float32")
    model = keras.models.load_model(run_dir / "model.keras", compile=False)
    assert np.allclose(outputs, model.predict(x, verbose=0), atol=1e-6)


def test_a_run_that_has_no_model_yet_gives_its_checkpoint(training: Training, tmp_path: Path) -> None:
    worker = training.start(f"--run_dir={tmp_path / 'run'}", *FLAGS, "--epochs=50", environ={"PACE": "0.05"})
    worker.wait_for_step(21)
    worker.kill()
    worker.wait()
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    newest.write_bytes(b"torn")
    said = evaluate(training, tmp_path / "e", tmp_path / "run", *FLAGS)
    assert said["val_accuracy"] > 0.3


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        (("--model=nowhere",), 65, "--model=nowhere holds neither model.keras nor a whole checkpoint; name the folder"),
        (("--model=nowhere/model.keras",), 65, "--model=nowhere/model.keras is not there"),
        (("--model=TRAINED", "--hidden_units=33"), 64, "is not the model mlp that build_model makes"),
        (("--model=TRAINED", "--run_dir=TRAINED"), 64, "holds the result of --mode=train, which --mode=evaluate would"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    training: Training, trained: Path, tmp_path: Path, flags: tuple[str, ...], code: int, text: str
) -> None:
    given = [flag.replace("TRAINED", str(trained)) for flag in flags]
    worker = training.start("--mode=evaluate", f"--run_dir={tmp_path}", "--experiment=trainer.mnist", *given)
    assert worker.wait() == code, worker.text
    assert [line for line in worker.lines if line.startswith("error: ") and text in line], worker.text


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_a_damaged_file_is_not_taken_for_that_of_another_model(name: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(50)], name="mine")
    (model.save if name == "model.keras" else model.save_weights)(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    middle = len(whole) // 2
    damaged = {"garbage": b"garbage", "empty": b"", "half": whole[:middle]}
    if name == "model.keras":  # It has checksums.
        damaged["a byte"] = whole[:middle] + bytes([255 - whole[middle]]) + whole[middle + 1 :]
    for content in damaged.values():
        with pytest.raises(DataError, match=rf"^gs://b/{name} is damaged \(.+\); name the folder of another run$"):
            trained_model.of_file(f"gs://b/{name}", name, content, model)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(50)], name="other")
    with pytest.raises(UsageError, match=rf"^gs://b/{name} is not the model other that build_model makes"):
        trained_model.of_file(f"gs://b/{name}", name, whole, other)


def test_a_damaged_model_ends_with_65(training: Training, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_text("garbage")
    worker = training.start("--mode=evaluate", f"--model={tmp_path}", f"--run_dir={tmp_path / 'run'}")
    assert worker.wait() == 65, worker.text
    said = f"error: {tmp_path}/model.keras is damaged (File is not a zip file); name the folder of another run"
    assert said in worker.lines


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"mode": "evaluate"}, "--mode=evaluate needs a model; add --model=RUN_DIR"),
        ({"model": "x"}, "--model=x is of --mode=evaluate and predict; add the mode"),
        ({"to": "predictions.npy"}, "--to=predictions.npy is of --mode=predict; add the mode"),
        ({"mode": "evaluate", "model": "x", "to": "predictions.npy"}, "--to=predictions.npy is of --mode=predict"),
        (
            {"mode": "evaluate", "model": "x", "resume_from": "y"},
            "--resume_from=y is of --mode=train, got --mode=evaluate",
        ),
        (
            {"mode": "predict", "model": "x", "export": "tflite"},
            "--export=tflite is of --mode=train, got --mode=predict",
        ),
        ({"mode": "evaluate", "model": "x", "profile_steps": "1:2"}, "--profile_steps=1:2 is of --mode=train"),
        (
            {"mode": "predict", "model": "x", "to": "out.npy"},
            "--to=out.npy cannot be written; expected predictions.npy",
        ),
        ({"mode": "predict", "model": "x", "to": "/out.csv"}, "--to=/out.csv cannot be written"),
    ],
)
def test_flags_that_do_not_go_together(flags: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as refused:
        Config(**flags).check()
    assert str(refused.value).startswith(text)


def test_a_file_has_its_room_before_it_is_written_and_goes_where_it_fails(tmp_path: Path) -> None:
    """A map of a file finds out only when it is written to that the disk is full, and the process ends by SIGBUS."""
    path, field = tmp_path / "predictions.npy", prediction_files.Field("output", (1000,), np.dtype("float32"))
    with contextlib.suppress(KeyError), prediction_files.writing(path, [field], 500):
        (part,) = tmp_path.iterdir()
        assert part.stat().st_blocks * 512 >= 500 * 4000
        raise KeyError
    assert not [*tmp_path.iterdir()]
    with (
        full_disk.no_room_beyond(1000),
        pytest.raises(OSError, match="File too large"),
        prediction_files.writing(path, [field], 500),
    ):
        pass
    assert not [*tmp_path.iterdir()]


def test_parquet_without_pyarrow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction_files.check(Path("predictions.parquet"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    prediction_files.check(Path("predictions.npy"))
    with pytest.raises(UsageError, match=r"pyarrow is not installed, .* pip install 'pyarrow[<>=,\d]+'$"):
        prediction_files.check(Path("predictions.parquet"))
