"""How often each example of tests/experiments/counting.py was trained on."""

from pathlib import Path
from typing import Any

import pytest

from trainer.training.state.checkpoint import Checkpoints


def visits(run_dir: Path) -> Any:
    """Of the newest checkpoint: float [examples]."""
    newest = Checkpoints(run_dir, keep=1).newest()
    assert newest
    (table,) = (array for name, array in newest.arrays.items() if name.endswith("table"))
    return table


def check_once_an_epoch(run_dir: Path, *, epochs: int, batch: int) -> None:
    """Each example once an epoch, but for those that fill no whole batch: others in every epoch."""
    table = visits(run_dir)
    steps, rest = divmod(len(table), batch)
    assert table.sum() == pytest.approx(epochs * steps * batch)
    assert table.max() <= epochs + 0.001
    assert (table < epochs - 0.001).sum() <= epochs * rest
