"""Several real processes: what they share, and how they stop and leave."""

import signal
from pathlib import Path

import pytest

from tests.support.training_processes import Training, number, result

FLAGS = ("--epochs=2", "--global_batch_size=50", "--dropout=0")


def test_any_number_of_workers_takes_the_same_steps(training: Training, tmp_path: Path) -> None:
    found = {}
    for count in (1, 2, 3, 4):
        workers = training.run(f"--run_dir={tmp_path / str(count)}", *FLAGS, count=count)
        found[count] = result(tmp_path / str(count))
        assert found[count]["workers"] == count
        for worker in workers:  # Each says how far it is, and all say the same.
            assert [line.loss for line in worker.progress if line.ends_epoch] == [
                line.loss for line in workers[0].progress if line.ends_epoch
            ]
    # 50 examples are 17, 17 and 16 on three workers, 13, 13, 12 and 12 on four.
    for count in (2, 3, 4):
        for name in ("loss", "val_loss"):
            assert found[count][name] == pytest.approx(found[1][name], rel=1e-4)
        assert found[count]["val_accuracy"] == pytest.approx(found[1]["val_accuracy"], abs=0.011)


def test_sigterm_to_one_of_four_stops_all_at_one_step_and_three_may_go_on(training: Training, tmp_path: Path) -> None:
    flags = (f"--run_dir={tmp_path}", "--global_batch_size=50")
    workers = training.start_workers(4, *flags, "--epochs=100000")
    for worker in workers:
        worker.wait_for_step(1)
    workers[3].kill(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [75, 75, 75, 143], workers[0].text
    stops = {number(r"(?m)^stopped at step (\d+) of", worker.text) for worker in workers}
    assert len(stops) == 1
    (stop,) = stops
    assert (tmp_path / "checkpoints" / f"step-{stop:010d}.npz").exists()
    assert not (tmp_path / "result.json").exists()

    fewer = training.run(*flags, f"--epochs={stop // 12 + 1}", count=3)
    assert f"resuming at step {stop} of" in fewer[0].text
    assert result(tmp_path)["workers"] == 3


def test_more_workers_than_examples_in_a_batch_is_an_error(training: Training, tmp_path: Path) -> None:
    workers = training.start_workers(3, f"--run_dir={tmp_path}", "--global_batch_size=2")
    for worker in workers:
        assert worker.wait() == 64
        assert "--global_batch_size=2 is smaller than the number of workers, 3" in worker.text


def test_an_experiment_of_ones_own_trains_on_two_workers(training: Training, tmp_path: Path) -> None:
    (tmp_path / "stripes.py").write_text(STRIPES)
    workers = training.start_workers(
        2, f"--run_dir={tmp_path / 'run'}", "--experiment=stripes", "--global_batch_size=30", "--epochs=4",
        environ={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    for worker in workers:
        assert worker.wait() == 0, worker.text
    assert "conv" in workers[0].text
    assert result(tmp_path / "run")["val_accuracy"] > 0.95


STRIPES = '''
"""Tells horizontal from vertical stripes with a small CNN that gives logits."""
import keras
import numpy as np


def load_data(config):
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 900)
    images = random.normal(size=(900, 12, 12, 1)).astype(np.float32) * 0.3
    images[labels == 0, ::2] += 1
    images[labels == 1, :, ::2] += 1
    return (images[:600], labels[:600]), (images[600:], labels[600:])


def build_model(config):
    return keras.Sequential([
        keras.Input((12, 12, 1)),
        keras.layers.Conv2D(8, 3, name="conv", activation="relu"),
        keras.layers.BatchNormalization(momentum=0.8),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(2),
    ])
'''
