"""The two lines of TensorFlow train to the same bits on a CPU, and go on with each other's checkpoints."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import event_reader
from tests.support.paths import ROOT
from tests.support.training_processes import Training, number, result
from trainer.core.log_lines import Progress

LINES = {"classic": ROOT / ".venv/bin/python", "current": ROOT / ".venv-current/bin/python"}
# Enough hidden units for an epoch to take a moment, and checkpoints all the while.
FLAGS = ("--epochs=3", "--global_batch_size=40", "--hidden_units=1500", "--checkpoint_every=0.3")

pytestmark = [
    pytest.mark.skipif(not python.exists(), reason=f"no {line} line here: make setup TENSORFLOW={line}")
    for line, python in LINES.items()
]


@pytest.fixture
def lines(small_mnist: Path) -> Iterator[dict[str, Training]]:
    """Starts training on each."""
    flags = [f"--data_dir={small_mnist}", "--threads=1"]
    started = {line: Training(flags, python) for line, python in LINES.items()}
    yield started
    for training in started.values():
        training.close()


def test_an_epoch_of_mnist_ends_with_the_same_weights(lines: dict[str, Training], tmp_path: Path) -> None:
    for line, training in lines.items():
        training.run(f"--run_dir={tmp_path / line}", "--data_dir=", "--epochs=1")
    classic, current = (result(tmp_path / line) for line in LINES)
    assert classic["versions"]["tensorflow"] < "2.18" < current["versions"]["tensorflow"]
    assert current["weights_sha256"] == classic["weights_sha256"]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert current[name] == classic[name]


def test_each_goes_on_with_a_checkpoint_of_the_other(lines: dict[str, Training], tmp_path: Path) -> None:
    lines["classic"].run(f"--run_dir={tmp_path / 'whole'}", *FLAGS)
    whole = result(tmp_path / "whole")
    for first, second in (("classic", "current"), ("current", "classic")):
        run_dir = tmp_path / first
        worker = lines[first].start(f"--run_dir={run_dir}", *FLAGS)
        worker.wait_for(lambda line: (progress := Progress.parse(line)) and progress.saved)  # It is on the disk.
        worker.kill()
        assert worker.wait() == -9, worker.text
        (resumed,) = lines[second].run(f"--run_dir={run_dir}", *FLAGS)
        assert number(r"resuming at step (\d+)", resumed.text) > 0
        assert result(run_dir)["weights_sha256"] == whole["weights_sha256"]
        assert event_reader.scalars(run_dir) == event_reader.scalars(tmp_path / "whole")
