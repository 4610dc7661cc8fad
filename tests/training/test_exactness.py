"""Whatever kills the processes, and whenever: the run ends with the same weights and the same curves."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import event_reader
from tests.support.training_processes import PATIENCE, Training, Worker, number, result
from tests.support.waiting import until
from trainer.core.log_lines import Progress

# Enough hidden units for a checkpoint to take a while to write.
FLAGS = ("--epochs=3", "--global_batch_size=40", "--hidden_units=1500", "--checkpoint_every=0.3", "--keep=2")
STEPS = 3 * 16


def importing(_worker: Worker, _run_dir: Path) -> None:
    time.sleep(1.0)


def between_steps(worker: Worker, _run_dir: Path) -> None:
    worker.wait_for(Progress.parse)
    time.sleep(random.random() * 0.1)  # Of half a second that the run goes on, on a fast machine.


def saving(_worker: Worker, run_dir: Path) -> None:
    until(PATIENCE, "a save", lambda: list((run_dir / "checkpoints").glob(".step-*.npz")), pause=0.001)


def after_an_epoch(worker: Worker, _run_dir: Path) -> None:
    worker.wait_for(lambda line: (progress := Progress.parse(line)) and progress.ends_epoch)


def after_the_last_step(worker: Worker, _run_dir: Path) -> None:
    worker.wait_for(lambda line: (progress := Progress.parse(line)) and progress.ends_epoch and progress.step == STEPS)


def test_kills_at_every_stage_change_nothing(training: Training, undisturbed: Path, tmp_path: Path) -> None:
    moments: list[Callable[[Worker, Path], None]] = [
        importing, between_steps, saving, after_an_epoch, saving, after_the_last_step,
    ]  # fmt: skip
    executed = lost = 0
    for moment in moments:
        worker = training.start(f"--run_dir={tmp_path}", *FLAGS, anew=moment is importing)
        moment(worker, tmp_path)
        newest = _newest(tmp_path)
        worker.kill()
        assert worker.wait() == -9, worker.text
        if worker.progress:
            executed += worker.progress[-1].step - _resumed_at(worker)
            lost += max(0, worker.progress[-1].step - newest)
    (last,) = training.run(f"--run_dir={tmp_path}", *FLAGS)
    executed += STEPS - _resumed_at(last)
    assert executed <= STEPS + lost, "no step is repeated but those since a checkpoint"
    assert lost <= 16 * len(moments), "an epoch ends with a checkpoint"
    assert result(tmp_path)["weights_sha256"] == result(undisturbed)["weights_sha256"]
    assert event_reader.scalars(tmp_path) == event_reader.scalars(undisturbed)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "steps"):
        assert result(tmp_path)[name] == result(undisturbed)[name]


def test_a_kill_of_either_of_two_workers_changes_nothing(training: Training, small_mnist: Path, tmp_path: Path) -> None:
    del small_mnist
    training.run(f"--run_dir={tmp_path / 'whole'}", *FLAGS, count=2)
    for victim in (1, 0):
        workers = training.start_workers(2, f"--run_dir={tmp_path / 'killed'}", *FLAGS)
        between_steps(workers[victim], tmp_path)
        workers[victim].kill()
        assert workers[victim].wait() == -9
        # TensorFlow notices by itself; an abort of its C++ code (134, or -6) is the other way it may end.
        assert workers[1 - victim].wait() in (75, -6), workers[1 - victim].text
    training.run(f"--run_dir={tmp_path / 'killed'}", *FLAGS, count=2)
    whole, killed = result(tmp_path / "whole"), result(tmp_path / "killed")
    assert killed["weights_sha256"] == whole["weights_sha256"]
    assert event_reader.scalars(tmp_path / "killed") == event_reader.scalars(tmp_path / "whole")


@pytest.mark.parametrize("count", [1, 2])
def test_kills_change_nothing_where_xla_compiles(count: int, training: Training, tmp_path: Path) -> None:
    flags = (*FLAGS, "--jit_compile=true")
    training.run(f"--run_dir={tmp_path / 'whole'}", *flags, count=count)
    for moment in (between_steps, after_an_epoch):
        workers = training.start_workers(count, f"--run_dir={tmp_path / 'killed'}", *flags)
        moment(workers[0], tmp_path / "killed")
        workers[0].kill()
        assert workers[0].wait() == -9, workers[0].text
        for other in workers[1:]:
            other.kill()
            other.wait()
    training.run(f"--run_dir={tmp_path / 'killed'}", *flags, count=count)
    whole, killed = result(tmp_path / "whole"), result(tmp_path / "killed")
    assert killed["weights_sha256"] == whole["weights_sha256"]
    assert event_reader.scalars(tmp_path / "killed") == event_reader.scalars(tmp_path / "whole")


def _newest(run_dir: Path) -> int:
    paths = (run_dir / "checkpoints").glob("step-*.npz")
    return max((int(path.stem.removeprefix("step-")) for path in paths), default=0)


def _resumed_at(worker: Worker) -> int:
    """The step that an attempt began at: the run's last, when there was nothing left to do but the result."""
    return number(r"resuming at step (\d+)", worker.text) if "resuming at step" in worker.text else 0
