"""--early_stopping, --keep_best, --restore_best: the same decision and the same best, whatever is killed meanwhile."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.support.training_processes import Training, Worker, result
from trainer.core.run_dir import best_names
from trainer.training.state.checkpoint import Checkpoint

# Too fast to go on getting better: val_loss is the lowest in the middle of the run.
FLAGS = (
    "--experiment=tests.experiments.paced", "--epochs=14", "--global_batch_size=64", "--hidden_units=32",
    "--learning_rate=0.05", "--dropout=0", "--early_stopping=val_loss:patience=4,min_delta=0.001",
    "--keep_best=val_loss:2", "--restore_best", "--histogram_freq=0",
)  # fmt: skip
SLOWLY = {"PACE": "0.03"}


def best_arrays(run_dir: Path) -> dict[str, dict[str, Any]]:
    return {name: Checkpoint.decode((run_dir / "best" / name).read_bytes()).arrays for name in best_names(run_dir)}


def assert_same_best(run_dir: Path, other: Path) -> None:
    ours, theirs = best_arrays(run_dir), best_arrays(other)
    assert list(ours) == list(theirs)
    for name, arrays in ours.items():
        for key, value in arrays.items():
            assert np.array_equal(value, theirs[name][key]), f"{name} {key}"


def assert_same_end(run_dir: Path, other: Path) -> None:
    ours, theirs = result(run_dir), result(other)
    for name in ("epochs", "steps", "end", "best", "loss", "val_loss", "val_accuracy", "weights_sha256"):
        assert ours[name] == theirs[name], name
    assert_same_best(run_dir, other)


def history(run_dir: Path) -> list[dict[str, float]]:
    path = sorted((run_dir / "checkpoints").iterdir())[-1]
    return Checkpoint.decode(path.read_bytes()).history


def kill_at(worker: Worker, step: int) -> None:
    worker.wait_for_step(step)
    worker.kill()
    assert worker.wait() == -9, worker.text


def test_a_run_ends_early_and_its_model_is_the_best(undisturbed: Path) -> None:
    said, losses = result(undisturbed), [scores["val_loss"] for scores in history(undisturbed)]
    best = losses.index(min(losses))
    assert 0 < best == len(losses) - 5 < 9, "the flags of this test end the run in its middle"
    assert (said["epochs"], said["steps"]) == (len(losses), 10 * len(losses))
    assert said["end"]["by"] == "early_stopping"
    assert said["end"]["why"].startswith(
        f"val_loss was {losses[best]:.6g} after epoch {best + 1} and not better by more"
    )
    assert said["best"] == {
        "metric": "val_loss", "mode": "min", "epoch": best + 1, "value": losses[best], "model_epoch": best + 1,
    }  # fmt: skip
    assert said["val_loss"] == losses[best]
    kept = sorted(sorted(range(len(losses)), key=losses.__getitem__)[:2])
    assert best_names(undisturbed) == [f"step-{10 * (epoch + 1):010d}.npz" for epoch in kept]
    arrays = best_arrays(undisturbed)[f"step-{10 * (best + 1):010d}.npz"]
    with keras.saving.custom_object_scope({"Pace": keras.layers.Identity, "Custom>Pace": keras.layers.Identity}):
        weights = keras.models.load_model(undisturbed / "model.keras", compile=False).get_weights()
    stored = [value for name, value in arrays.items() if name.startswith("model/")]
    assert all(np.array_equal(one, other) for one, other in zip(weights, stored, strict=True))


def test_kills_change_neither_the_decision_nor_the_best(training: Training, undisturbed: Path, tmp_path: Path) -> None:
    steps = result(undisturbed)["steps"]
    for step in (15, 50, steps - 22, steps - 3):
        kill_at(training.start(f"--run_dir={tmp_path}", *FLAGS, "--checkpoint_every=0.1", environ=SLOWLY), step)
    again = training.start(f"--run_dir={tmp_path}", *FLAGS)
    assert again.wait() == 0, again.text
    assert f"early stopping ends the run after epoch {steps // 10} of 14: val_loss was" in again.text
    assert_same_end(tmp_path, undisturbed)


def test_a_kill_after_the_decision_and_before_the_result(training: Training, undisturbed: Path, tmp_path: Path) -> None:
    worker = training.start(f"--run_dir={tmp_path}", *FLAGS)
    worker.wait_for(lambda line: line.startswith("early stopping ends the run"))
    worker.kill()
    worker.wait()
    (tmp_path / "result.json").unlink(missing_ok=True)  # Where it was quicker than the kill.
    training.run(f"--run_dir={tmp_path}", *FLAGS)
    assert_same_end(tmp_path, undisturbed)


@pytest.mark.thorough
def test_another_number_of_workers_decides_the_same(training: Training, undisturbed: Path, tmp_path: Path) -> None:
    """Two workers, of which one is killed; then one goes on; then two again."""
    alone, steps = result(undisturbed), result(undisturbed)["steps"]
    for victim in (1, 0):
        workers = training.start_workers(2, f"--run_dir={tmp_path}", *FLAGS, environ=SLOWLY)
        kill_at(workers[victim], 25 + 25 * (1 - victim))
        assert workers[1 - victim].wait() in (75, -6), workers[1 - victim].text
        kill_at(training.start(f"--run_dir={tmp_path}", *FLAGS, environ=SLOWLY), steps - 45 + 20 * (1 - victim))
    for worker in training.run(f"--run_dir={tmp_path}", *FLAGS, count=2):
        assert f"early stopping ends the run after epoch {steps // 10} of 14" in worker.text
    said = result(tmp_path)
    assert (said["steps"], said["best"]["epoch"], said["best"]["model_epoch"]) == (
        steps, alone["best"]["epoch"], alone["best"]["epoch"],
    )  # fmt: skip
    assert best_names(tmp_path) == best_names(undisturbed)
    assert said["best"]["value"] == pytest.approx(alone["best"]["value"], rel=1e-4)


def test_a_run_that_goes_on_from_another_keeps_its_best(training: Training, undisturbed: Path, tmp_path: Path) -> None:
    flags = [flag for flag in FLAGS if not flag.startswith("--early_stopping")]
    worse = "--learning_rate=1"  # So that nothing better comes.
    training.run(f"--run_dir={tmp_path}", f"--resume_from={undisturbed}", *flags, worse)
    said = result(tmp_path)
    assert (said["epochs"], said["end"]) == (14, {"by": "epochs"})
    assert said["best"] == result(undisturbed)["best"]
    assert said["weights_sha256"] == result(undisturbed)["weights_sha256"]


def test_a_damaged_best_gives_way_to_the_next(training: Training, undisturbed: Path, tmp_path: Path) -> None:
    first, second = (scores for scores in sorted(history(undisturbed), key=lambda scores: scores["val_loss"])[:2])
    worker = training.start(f"--run_dir={tmp_path}", *FLAGS, environ=SLOWLY)
    kill_at(worker, result(undisturbed)["steps"] - 5)
    path = tmp_path / "best" / f"step-{10 * result(undisturbed)['best']['epoch']:010d}.npz"
    path.write_bytes(path.read_bytes()[:-100])
    (again,) = training.run(f"--run_dir={tmp_path}", *FLAGS)
    assert f"{path} of one of the best epochs cannot be read" in again.text
    said = result(tmp_path)
    assert said["best"]["value"] == first["val_loss"]
    assert said["val_loss"] == second["val_loss"] == history(tmp_path)[said["best"]["model_epoch"] - 1]["val_loss"]


def test_without_validation_data_the_metrics_of_training_are_named(training: Training, tmp_path: Path) -> None:
    text = "from trainer import mnist\nfrom trainer.mnist import Flags, build_model, preprocess\n"
    (tmp_path / "alone.py").write_text(text + "load_data = lambda config: (mnist.load_data(config)[0], None)\n")
    flags = (f"--run_dir={tmp_path / 'run'}", "--experiment=alone", "--keep_best=val_loss:1")
    worker = training.start(*flags, environ={"PYTHONPATH": str(tmp_path)})
    assert worker.wait() == 64, worker.text
    assert "error: --keep_best names val_loss, which is not measured; there are loss, accuracy" in worker.lines


def test_a_metric_that_is_not_measured_is_refused_by_all_workers(training: Training, tmp_path: Path) -> None:
    flags = (f"--run_dir={tmp_path}", "--early_stopping=val_auc:patience=2")
    for worker in training.start_workers(2, *flags):
        assert worker.wait() == 64, worker.text
        line = (
            "error: --early_stopping names val_auc, which is not measured; there are loss, accuracy, val_loss, val_acc"
        )
        assert line in worker.text
        assert not worker.progress
