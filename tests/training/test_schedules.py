"""--learning_rate_schedule and --warmup_steps: Keras' own schedules over the steps of the whole run."""

import math
from pathlib import Path

import pytest

from tests.support import event_reader
from tests.support.training_processes import Training, result
from trainer.core.config import Config
from trainer.core.exit_codes import UsageError
from trainer.training.model.schedules import schedule

STEPS, WARMUP = 30, 6
FLAGS = (
    "--experiment=tests.experiments.paced", "--epochs=3", "--global_batch_size=64", "--hidden_units=32", "--dropout=0",
)  # fmt: skip
COSINE = ("--learning_rate_schedule=cosine", f"--warmup_steps={WARMUP}")
COMPILED = """
import keras
from trainer import mnist
from trainer.mnist import Flags, load_data, preprocess

def build_model(config):
    model = mnist.build_model(config)
    rate = keras.optimizers.schedules.CosineDecay(0.01, 30)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
"""


def rates(kind: str, *, warmup: int = 0, steps: int = 12, rate: float = 1.0) -> list[float]:
    config = Config(learning_rate=rate, learning_rate_schedule=kind, warmup_steps=warmup)
    made = schedule(config, steps)
    return [float(made(step)) if callable(made) else made for step in range(steps)]


def cosine(step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def test_the_rate_of_each_step() -> None:
    assert rates("constant") == [1.0] * 12
    assert rates("cosine") == pytest.approx([cosine(step, 12) for step in range(12)], abs=1e-6)
    assert rates("linear") == pytest.approx([1 - step / 12 for step in range(12)], abs=1e-6)
    assert rates("step", rate=0.5) == pytest.approx([0.5] * 6 + [0.05] * 3 + [0.005] * 3)
    assert rates("step", steps=1) == [1.0]


@pytest.mark.parametrize("kind", ["constant", "cosine", "linear", "step"])
def test_a_warm_up_rises_to_where_the_schedule_begins(kind: str) -> None:
    assert rates(kind, warmup=4) == pytest.approx([0.25, 0.5, 0.75, 1.0, *rates(kind, steps=8)], abs=1e-6)


def test_a_warm_up_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--warmup_steps=12 leaves nothing of the run's 12 steps; take fewer"):
        rates("constant", warmup=12)


def test_a_kill_and_another_number_of_workers_go_on_in_the_schedule(training: Training, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    training.run(f"--run_dir={whole}", *FLAGS, *COSINE)
    for count, step in ((1, 8), (2, 18)):
        flags = (f"--run_dir={parts}", *FLAGS, *COSINE, "--checkpoint_every=0.1")
        workers = training.start_workers(count, *flags, environ={"PACE": "0.05"})
        workers[0].wait_for_step(step)
        for worker in workers:
            worker.kill()
            worker.wait()
    training.run(f"--run_dir={parts}", *FLAGS, *COSINE)
    assert result(parts)["val_loss"] == pytest.approx(result(whole)["val_loss"], rel=1e-4)
    expected = [0.001 * cosine(step - WARMUP, STEPS - WARMUP) for step in (10, 20, 30)]
    for run_dir in (whole, parts):
        shown = event_reader.scalars(run_dir)["train", "epoch_learning_rate"]
        assert [value for _, value in shown] == pytest.approx(expected, abs=1e-8)


def test_it_trains_as_a_model_that_is_compiled_with_it(training: Training, tmp_path: Path) -> None:
    (tmp_path / "compiled.py").write_text(COMPILED)
    flags = ("--epochs=3", "--global_batch_size=64", "--hidden_units=32")
    worker = training.start(
        f"--run_dir={tmp_path / 'compiled'}", "--experiment=compiled", *flags, environ={"PYTHONPATH": str(tmp_path)}
    )
    assert worker.wait() == 0, worker.text
    own = ("--learning_rate=0.01", "--learning_rate_schedule=cosine")
    training.run(f"--run_dir={tmp_path / 'flags'}", *flags, *own)
    assert result(tmp_path / "flags")["weights_sha256"] == result(tmp_path / "compiled")["weights_sha256"]
    refused = training.start(
        f"--run_dir={tmp_path / 'both'}", "--experiment=compiled", *flags, "--warmup_steps=3",
        environ={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert refused.wait() == 64
    assert "error: --warmup_steps=3 is of a model that is not compiled, and build_model of" in refused.text


@pytest.mark.parametrize(
    "more", [COSINE[:1], pytest.param(("--warmup_steps=6", "--optimizer=sgd"), marks=pytest.mark.thorough)]
)
def test_a_model_with_a_schedule_is_exported(more: tuple[str, ...], training: Training, tmp_path: Path) -> None:
    training.run(f"--run_dir={tmp_path / 'run'}", *FLAGS, *more, "--export=savedmodel")
    assert result(tmp_path / "run")["exports"]["savedmodel"]


def test_a_resume_with_fewer_epochs_than_are_done_is_refused(training: Training, tmp_path: Path) -> None:
    training.run(f"--run_dir={tmp_path / 'one'}", *FLAGS)
    own = (f"--run_dir={tmp_path / 'two'}", f"--resume_from={tmp_path / 'one'}", *FLAGS)
    worker = training.start(*own, "--epochs=2")
    assert worker.wait() == 64, worker.text
    text = "error: --epochs=2 is less than the checkpoint of step 30 has, whose epochs have 10 steps; give at least 3"
    assert text in worker.text
    training.run(*own, "--epochs=3")  # All is done, and the result is written.


def test_a_resume_with_another_schedule_is_refused(training: Training, tmp_path: Path) -> None:
    training.run(f"--run_dir={tmp_path / 'one'}", *FLAGS, *COSINE)
    for flags in (COSINE[:1], (*COSINE, "--epochs=4"), ("--learning_rate_schedule=constant",)):
        worker = training.start(f"--run_dir={tmp_path / 'two'}", f"--resume_from={tmp_path / 'one'}", *FLAGS, *flags)
        assert worker.wait() == 64, worker.text
        assert "made with learning rate schedule cosine over 30 steps, --warmup_steps=6, this start has" in worker.text
