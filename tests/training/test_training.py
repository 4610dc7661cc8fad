"""One real process: what it writes, prints and leaves behind."""

import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console

from tests.support import event_reader
from tests.support.paths import ROOT
from tests.support.small_mnist import TEST_IMAGES
from tests.support.training_processes import Training, result
from trainer import mnist
from trainer.core import experiment_flags
from trainer.core.log_lines import Progress
from trainer.training.data import idx_files
from trainer.training.progress import progress_bar
from trainer.training.results.result import weights_sha256


@pytest.fixture(scope="module")
def finished(small_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run's folder and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    training = Training([f"--data_dir={small_mnist}", "--threads=1"])
    (worker,) = training.run(f"--run_dir={run_dir}", "--epochs=3", "--global_batch_size=50", "--histogram_freq=2")
    training.close()
    return run_dir, worker.text


def test_prints_the_model_the_batches_and_the_progress(finished: tuple[Path, str]) -> None:
    _, text = finished
    assert "Total params: 407,050" in text
    assert "401,920" in text
    assert "5,130" in text
    assert (
        "global batch 50 = 1 replica(s) on 1 worker(s) × 50 examples; 12 steps an epoch × 3 epochs = 36 steps" in text
    )
    assert re.search(r"^progress worker=0/1 attempt=1 epoch=1/3 step=1/36 ", text, re.MULTILINE)
    assert len(re.findall(r"^progress .* val_loss=\S+ val_accuracy=\S+$", text, re.MULTILINE)) == 3
    assert not re.search(r"oneDNN|cpu_feature_guard|absl::InitializeLog|cuda", text)


def steps_by_tag(folder: Path) -> dict[str, list[int]]:
    steps: dict[str, list[int]] = {}
    for tag, step, _ in event_reader.points(folder):
        steps.setdefault(tag, []).append(step)
    return steps


def test_writes_the_tags_and_steps_of_keras_callback(
    finished: tuple[Path, str], small_mnist: Path, tmp_path: Path
) -> None:
    (images, labels), (test_images, test_labels) = idx_files.load(str(small_mnist))
    model = mnist.build_model(experiment_flags.parse([])[0])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        images[:600] / 255, labels[:600], batch_size=50, epochs=3, verbose=0,
        validation_data=(test_images / 255, test_labels),
        callbacks=[keras.callbacks.TensorBoard(tmp_path, histogram_freq=2)],
    )  # fmt: skip
    run_dir, _ = finished
    ours, theirs = steps_by_tag(run_dir / "train"), steps_by_tag(tmp_path / "train")
    assert ours.pop("epoch_examples_per_second") == [0, 1, 2]
    assert ours.pop("__run_graph__") == [0]  # The callback of Keras 3 does not write the graph of operations.
    assert ours == theirs
    assert steps_by_tag(run_dir / "validation") == steps_by_tag(tmp_path / "validation")
    assert theirs["epoch_loss"] == [0, 1, 2]
    assert len([tag for tag in theirs if tag.endswith("/histogram")]) == 4


def test_the_result_says_what_the_events_say(finished: tuple[Path, str]) -> None:
    run_dir, text = finished
    found, curves = result(run_dir), event_reader.scalars(run_dir)
    assert list(found) == [
        "workers", "global_batch_size", "epochs", "steps", "loss", "accuracy", "val_loss", "val_accuracy", "end",
        "examples_per_second", "images_per_second", "seconds", "restarts", "weights_sha256", "experiment", "flags",
        "versions", "report",
    ]  # fmt: skip
    assert (found["workers"], found["global_batch_size"], found["epochs"], found["steps"]) == (1, 50, 3, 36)
    assert found["restarts"] == 0
    assert found["seconds"] > 0
    assert found["examples_per_second"] == found["images_per_second"] > 0
    for kind, name in (("train", "loss"), ("train", "accuracy"), ("validation", "loss"), ("validation", "accuracy")):
        key = name if kind == "train" else f"val_{name}"
        assert found[key] == pytest.approx(curves[kind, f"epoch_{name}"][-1][1], rel=1e-6)
    assert json.loads(text.splitlines()[-1]) == found


def test_plain_keras_loads_the_model_and_classifies(finished: tuple[Path, str], small_mnist: Path) -> None:
    run_dir, _ = finished
    model = keras.models.load_model(run_dir / "model.keras")
    _, (images, labels) = idx_files.load(str(small_mnist))
    classes = model.predict(images / np.float32(255), verbose=0).argmax(axis=1)
    found = result(run_dir)
    assert (classes == labels).sum() == round(found["val_accuracy"] * TEST_IMAGES)
    assert weights_sha256(model) == found["weights_sha256"]
    model.compile(loss="sparse_categorical_crossentropy")
    assert model.evaluate(images / np.float32(255), labels, verbose=0) == pytest.approx(found["val_loss"], rel=1e-4)


def test_the_run_directory_holds_what_was_designed(finished: tuple[Path, str]) -> None:
    run_dir, _ = finished
    assert sorted(path.name for path in run_dir.iterdir()) == [
        "checkpoints", "model.keras", "report.html", "result.json", "train", "validation",
    ]  # fmt: skip
    checkpoints = {path.name for path in (run_dir / "checkpoints").iterdir()}
    assert "step-0000000036.npz" in checkpoints
    # An epoch may be over before the checkpoint of the one before it is written; the next takes its place then.
    assert checkpoints <= {f"step-{step:010d}.npz" for step in (12, 24, 36)}


def test_a_finished_run_is_left_as_it_is(finished: tuple[Path, str], training: Training) -> None:
    run_dir, _ = finished
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    (worker,) = training.run(f"--run_dir={run_dir}", "--epochs=9")
    assert "finished run" in worker.text
    assert before == {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


def test_another_run_goes_on_from_a_finished_one(
    finished: tuple[Path, str], training: Training, tmp_path: Path
) -> None:
    run_dir, _ = finished
    flags = ("--global_batch_size=50", "--epochs=4", "--histogram_freq=2")
    (resumed,) = training.run(f"--run_dir={tmp_path / 'resumed'}", f"--resume_from={run_dir}", *flags)
    assert "resuming at step 36 of 48" in resumed.text
    training.run(f"--run_dir={tmp_path / 'whole'}", *flags)
    assert result(tmp_path / "resumed")["weights_sha256"] == result(tmp_path / "whole")["weights_sha256"]


@pytest.mark.parametrize("flag", ["--jit_compile", "--precision=bfloat16"])
def test_other_ways_to_compute_learn_as_well(
    flag: str, finished: tuple[Path, str], training: Training, tmp_path: Path
) -> None:
    training.run(f"--run_dir={tmp_path}", flag, "--epochs=3", "--global_batch_size=50")
    assert result(tmp_path)["loss"] == pytest.approx(result(finished[0])["loss"], rel=0.05)


def test_a_terminal_shows_a_bar_and_a_line_an_epoch(small_mnist: Path, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", f"--data_dir={small_mnist}", f"--run_dir={tmp_path}", "--epochs=2"],
        cwd=ROOT, stdin=follower, stdout=follower, stderr=follower, env=os.environ | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(follower)
    shown = b""
    try:
        while block := os.read(leader, 4096):
            shown += block
    except OSError:  # What reading gives when the other side is closed.
        pass
    os.close(leader)
    assert process.wait() == 0, shown.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "\n")
    assert re.search(r"epoch 2/2 +━+.* +step 10/10 +loss \d\.\d{4} accuracy 0\.\d{4} .*examples/s", text), text
    assert len(re.findall(r"^epoch \d/2  loss .*  val_accuracy 0\.\d{4} ", text, re.MULTILINE)) == 2
    assert "progress worker" not in text


def test_the_bar_shows_metrics_as_they_are_called() -> None:
    """Nothing in a name is markup, which would be left out, or end training where it is wrong."""
    out = io.StringIO()
    bar = progress_bar._Bar()
    bar._bar.live.console = Console(file=out, force_terminal=True, width=200)
    names = {"loss": 1.0, "f1[macro]": 0.5, "x[/y]": 2.0, ":smile:": 3.0}
    bar.epoch(
        Progress(
            worker=0, workers=1, attempt=1, epoch=1, epochs=2, step=1, steps=2, metrics=names, examples_per_second=1.0,
            validation={"a[/b]": 1.0},
        )
    )  # fmt: skip
    bar.close()
    assert "loss 1.0000  f1[macro] 0.5000  x[/y] 2.0000  :smile: 3.0000  val_a[/b] 1.0000" in out.getvalue()
    assert re.search(r"step 1/2 .*f1\[macro\] 0\.5000", out.getvalue())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_after_a_save(number: signal.Signals, code: int, training: Training, tmp_path: Path) -> None:
    worker = training.start(f"--run_dir={tmp_path}", "--epochs=100000")
    worker.wait_for_step(20)
    worker.kill(number)
    assert worker.wait() == code
    (line,) = [line for line in worker.lines if line.startswith("stopped at step")]
    newest = max((tmp_path / "checkpoints").glob("step-*.npz"))
    assert int(newest.stem.removeprefix("step-")) == int(line.split()[3])
    assert not (tmp_path / "result.json").exists()


def test_what_is_deprecated_in_our_own_code_fails_these_tests(training: Training, tmp_path: Path) -> None:
    """In the processes that they start, too."""
    worker = training.start(f"--run_dir={tmp_path}", "--experiment=tests.experiments.deprecated")
    assert worker.wait() != 0
    assert "DeprecationWarning: old" in worker.text
