"""An experiment's on_epoch_end: it may end a run, which then has its result, however often it was killed before."""

from pathlib import Path

from tests.support.training_processes import Training, Worker, result

ENDS = """
from pathlib import Path
from trainer.mnist import Flags, build_model, load_data, preprocess

def on_epoch_end(epoch, logs):
    with Path(__file__).with_name("asked").open("a") as file:
        print(epoch, sorted(logs), file=file)
    return "stop" if epoch == 1 else None
"""
APART = """
import json
import os
from trainer import mnist
from trainer.mnist import Flags, build_model, preprocess

def load_data(config):
    (x, y), validation = mnist.load_data(config)
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    return (x[index::2], y[index::2]), validation
"""


def experiment(folder: Path, name: str, text: str) -> dict[str, str]:
    """Writes a module; returns the environment in which it is found."""
    (folder / f"{name}.py").write_text(text)
    return {"PYTHONPATH": str(folder)}


def ended_early(worker: Worker) -> None:
    assert worker.wait() == 0, worker.text
    assert "on_epoch_end ends the run after epoch 2 of 4" in worker.lines


def test_it_ends_the_run_with_a_result(training: Training, tmp_path: Path) -> None:
    environ = experiment(tmp_path, "ends", ENDS)
    flags = (f"--run_dir={tmp_path / 'run'}", "--experiment=ends", "--epochs=4")
    ended_early(training.start(*flags, environ=environ))
    first = result(tmp_path / "run")
    assert (first["epochs"], first["steps"]) == (2, 10)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [f"{epoch} ['accuracy', 'loss', 'val_accuracy', 'val_loss']" for epoch in (0, 1)]
    (tmp_path / "run" / "result.json").unlink()  # As if it had been killed before it wrote it.
    again = training.start(*flags, environ=environ)
    assert again.wait() == 0, again.text
    second = result(tmp_path / "run")
    assert (second["steps"], second["weights_sha256"]) == (10, first["weights_sha256"])
    assert (tmp_path / "asked").read_text().splitlines() == asked


def test_a_run_that_goes_on_from_another_does_not_end_with_it(training: Training, tmp_path: Path) -> None:
    environ = experiment(tmp_path, "ends", ENDS)
    ended_early(training.start(f"--run_dir={tmp_path / 'one'}", "--experiment=ends", "--epochs=4", environ=environ))
    flags = (f"--run_dir={tmp_path / 'two'}", f"--resume_from={tmp_path / 'one'}", "--experiment=ends", "--epochs=4")
    on = training.start(*flags, environ=environ)
    assert on.wait() == 0, on.text
    assert (result(tmp_path / "two")["epochs"], result(tmp_path / "two")["steps"]) == (4, 20)


def test_it_ends_all_workers(training: Training, tmp_path: Path) -> None:
    environ = experiment(tmp_path, "ends", ENDS)
    flags = (f"--run_dir={tmp_path / 'run'}", "--experiment=ends", "--epochs=4")
    for worker in training.start_workers(2, *flags, environ=environ):
        ended_early(worker)
    assert len((tmp_path / "asked").read_text().splitlines()) == 2  # The chief alone was asked.


def test_workers_with_different_data_are_refused(training: Training, tmp_path: Path) -> None:
    environ = experiment(tmp_path, "apart", APART)
    for worker in training.start_workers(2, f"--run_dir={tmp_path / 'run'}", "--experiment=apart", environ=environ):
        assert worker.wait() == 65, worker.text
        assert "error: worker 1 has loaded other data than worker 0; load_data must return the same" in worker.text
