import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from absl import logging

from tests.support.full_disk import no_room_beyond
from trainer.core.exit_codes import DataError, UsageError
from trainer.training.checkpoint import Checkpoint, Checkpoints, check_identity


def made(step: int, size: int = 1000) -> Checkpoint:
    arrays: dict[str, npt.NDArray[Any]] = {
        "model/0/kernel": np.arange(size, dtype=np.float32),
        "optimizer/0/iteration": np.array(step, np.int64),
    }
    return Checkpoint(
        step=step, sums=[np.array(0.1 + 0.2), np.arange(3, dtype=np.float32)], history=[{"loss": 1 / 3}], seconds=1.5,
        step_seconds=1.25, step_examples=128, identity={"seed": 0}, arrays=arrays,
    )  # fmt: skip


def saved(folder: Path, *steps: int, keep: int = 3) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=keep)
    for step in steps:
        checkpoints.save(made(step))
        checkpoints.wait()
    return checkpoints


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_reads_back_every_bit(tmp_path: Path) -> None:
    saved(tmp_path, 7)
    read, original = Checkpoints(tmp_path, keep=3).newest(), made(7)
    assert read is not None
    assert read.encode() == original.encode()
    assert read.arrays["optimizer/0/iteration"] == 7
    assert read.sums[0] == 0.1 + 0.2
    assert read.sums[1].tolist() == [0, 1, 2]


def test_keeps_the_bits_and_the_name_of_types_that_numpy_does_not_know(tmp_path: Path) -> None:
    values = np.arange(4).astype("bfloat16")
    checkpoints = Checkpoints(tmp_path, keep=3)
    checkpoints.save(dataclasses.replace(made(7), arrays={"kernel": values}))
    checkpoints.wait()
    read = checkpoints.newest()
    assert read is not None
    assert str(read.arrays["kernel"].dtype) == "bfloat16"
    assert read.arrays["kernel"].tobytes() == values.tobytes()


def test_reads_what_0_1_0_wrote() -> None:
    """Made by that version: one epoch of ten steps of the small MNIST, and four steps of the second."""
    read = Checkpoint.decode((Path(__file__).parent / "written_by_0_1_0" / "step-0000000014.npz").read_bytes())
    assert read.step == 14
    assert list(read.history[0]) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert float(read.sums[0]) > 0
    assert 0 < float(read.sums[1]) <= 4 * 64


def test_a_newer_format_is_named_as_such() -> None:
    with np.load(io.BytesIO(made(7).encode())) as archive:
        members = {name: archive[name] for name in archive.files}
    state = json.loads(members["state.json"].tobytes()) | {"format": 99}
    members["state.json"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **members)
    with pytest.raises(DataError, match=r"format 99.*newer version"):
        Checkpoint.decode(file.getvalue())


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path, keep=3).newest() is None


def test_keeps_the_newest(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2, 3, 10, keep=2)
    assert names(tmp_path) == ["step-0000000003.npz", "step-0000000010.npz"]
    assert checkpoints.saved == 10


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def blank(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, weights=np.zeros(3))


@pytest.mark.parametrize("damage", [cut, flip, blank, foreign])
def test_a_damaged_newest_is_named_and_the_one_before_is_used(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path, 1, 2)
    damage(tmp_path / "checkpoints" / "step-0000000002.npz")
    logging.use_python_logging(quiet=True)
    newest = Checkpoints(tmp_path, keep=3).newest()
    assert newest is not None
    assert newest.step == 1
    assert "step-0000000002.npz is damaged" in caplog.text


@pytest.mark.parametrize("damage", [cut, flip, blank])
def test_none_whole_is_an_error_not_a_start_from_nothing(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    saved(tmp_path, 1, 2)
    for path in (tmp_path / "checkpoints").iterdir():
        damage(path)
    with pytest.raises(DataError, match="none of the 2 checkpoint"):
        Checkpoints(tmp_path, keep=3).newest()


def test_a_full_disk_costs_the_newest_checkpoint_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = saved(tmp_path, 1)
    logging.use_python_logging(quiet=True)
    with no_room_beyond(2000):
        checkpoints.save(made(2))
        checkpoints.wait()
    assert "step 2 could not be written" in caplog.text
    assert "at step 1" in caplog.text
    assert names(tmp_path) == ["step-0000000001.npz"]
    assert checkpoints.saved == 1
    checkpoints.save(made(3))
    checkpoints.wait()
    assert checkpoints.saved == 3


@pytest.mark.parametrize("name", ["seed", "model"])
def test_refuses_another_runs_checkpoint(name: str) -> None:
    check_identity(made(4), {"seed": 0})
    with pytest.raises(UsageError, match=rf"step 4 was made with {name} .*, this start has 1"):
        check_identity(made(4), {name: 1})
