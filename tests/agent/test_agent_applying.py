"""--mode=predict and evaluate under agents: a killed process begins anew, with the same numbers."""

import pathlib
import signal

import numpy as np
import pytest

from tests.support.agents import TRAINER, launched, running
from tests.support.training_processes import Training, result
from trainer.agent.training_flags import TrainingFlags
from trainer.core.exit_codes import UsageError

FLAGS = ("--experiment=tests.experiments.paced", "--epochs=1", "--global_batch_size=64", "--hidden_units=32")
ALL = "--data_dir="


def test_what_is_given_beside_a_model_reaches_training_though_it_is_a_default() -> None:
    """Else the value of the model's run would count."""
    given = ["--model=run", "--data_dir=", "--precision=float32", "--hidden_units=512"]
    flags = TrainingFlags.parse(["--mode=evaluate", "--run_dir=here", *given, "--global_batch_size=128"])
    assert {*given, "--mode=evaluate", "--run_dir=here"} == set(flags.arguments)
    assert {*given, "--mode=evaluate"} - {"--data_dir="} == set(flags.shared)
    training = TrainingFlags.parse(["--run_dir=here", "--precision=float32", "--seed=1"])
    assert (training.arguments, training.shared) == (("--run_dir=here", "--seed=1"), ("--seed=1",))


def test_flags_of_the_experiment_that_the_models_run_names_reach_training_unchecked() -> None:
    given = ["--mode=evaluate", "--model=gs://bucket/run", "--of_its_own=5"]
    flags = TrainingFlags.parse([*given, "--run_dir=here"])
    assert {*given} == set(flags.shared)
    with pytest.raises(UsageError, match="Unknown command line flag 'of_its_own'"):
        TrainingFlags.parse(["--run_dir=here", "--of_its_own=5"])


@pytest.mark.thorough
def test_a_prediction_survives_the_loss_of_either_worker(training: Training, tmp_path: pathlib.Path) -> None:
    model = tmp_path / "model"
    training.run(f"--run_dir={model}", *FLAGS)
    alone = ("--mode=predict", f"--model={model}", f"--run_dir={tmp_path / 'alone'}", ALL)
    training.run(*alone)
    flags = ["--mode=predict", f"--model={model}", "--threads=1", "--log_every=0.2"]
    flags[1:1] = [f"--experiment={FLAGS[0].partition('=')[2]}"]
    flags.append(ALL)  # The run names the small data, and this is the default: what is given counts.
    with running(tmp_path / "fleet", 2, program=TRAINER, trainer_flags=flags, environ={"PACE": "0.3"}) as run:
        chief, other = run.start_all()
        chief.wait_for_step(4)
        other.signal_training(signal.SIGKILL)
        chief.wait_for_step(4, attempt=2)
        chief.signal_training(signal.SIGKILL)
        assert run.codes() == [0, 0]
        assert run.result["restarts"] == 2
        predictions = np.load(run.run_dir / "predictions.npy")
    assert np.array_equal(predictions, np.load(tmp_path / "alone" / "predictions.npy"))


@pytest.mark.thorough
def test_a_local_fleet_evaluates(training: Training, tmp_path: pathlib.Path) -> None:
    model, run_dir = tmp_path / "model", tmp_path / "run"
    training.run(f"--run_dir={model}", *FLAGS)
    flags = ["--mode=evaluate", f"--model={model}", "--threads=1"]
    with launched("--workers=2", training=[*flags, f"--run_dir={run_dir}"]) as launcher:
        assert launcher.end() == 0
        assert f"succeeded: val_accuracy {result(model)['val_accuracy']:.4f}, val_loss" in launcher.text
    assert result(run_dir)["workers"] == 2
    assert result(run_dir)["val_accuracy"] == result(model)["val_accuracy"]
    other, alone = tmp_path / "other", tmp_path / "alone"
    with launched("--workers=1", training=[*flags, f"--run_dir={other}", ALL]) as launcher:
        assert launcher.end() == 0
    training.run(*flags, f"--run_dir={alone}", ALL)
    assert result(other)["val_accuracy"] == result(alone)["val_accuracy"] != result(model)["val_accuracy"]
