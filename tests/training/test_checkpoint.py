import dataclasses
import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from absl import logging
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.full_disk import no_room_beyond
from trainer.core.config import Config
from trainer.core.exit_codes import DataError, UsageError
from trainer.training import resuming
from trainer.training.state.checkpoint import Checkpoint, Checkpoints, check_identity


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


def best_names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "best").iterdir())


def test_what_a_kill_in_a_save_has_left_goes_with_the_next_start(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 10)
    checkpoints.save(made(20), best=[20])
    checkpoints.wait()
    for folder in ("checkpoints", "best"):
        (tmp_path / folder / ".step-0000000023.npz").write_bytes(b"half of it")
    found = resuming.find(tmp_path, Checkpoints(tmp_path, keep=3), Config()).checkpoint
    assert found is not None
    assert found.step == 20
    assert names(tmp_path) == ["step-0000000010.npz", "step-0000000020.npz"]
    assert best_names_of(tmp_path) == ["step-0000000020.npz"]


def test_the_best_stay_beside_the_newest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, best in ((10, [10]), (15, None), (20, [10]), (25, None), (30, [30, 10]), (40, [40, 30])):
        checkpoints.save(made(step), best=best)
        checkpoints.wait()
    assert names(tmp_path) == ["step-0000000030.npz", "step-0000000040.npz"]
    assert best_names_of(tmp_path) == ["step-0000000030.npz", "step-0000000040.npz"]
    newest, best_one = (tmp_path / folder / "step-0000000040.npz" for folder in ("checkpoints", "best"))
    assert newest.samefile(best_one), "it takes no more room"
    read = checkpoints.best(30)
    assert read is not None
    assert read.encode() == made(30).encode()
    assert checkpoints.best(10) is None


def test_the_best_are_on_the_disk_before_a_resume_can_begin_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", refused)
    monkeypatch.setattr(Path, "replace", interrupted_at("checkpoints/step-0000000010.npz", Path.replace))
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(made(10), best=[10])
    checkpoints.wait()
    assert best_names_of(tmp_path) == ["step-0000000010.npz"]
    assert checkpoints.newest() is None
    monkeypatch.undo()
    checkpoints.save(made(10), best=[20])  # As another number of workers may decide, when it comes here again.
    checkpoints.wait()
    assert (names(tmp_path), best_names_of(tmp_path)) == (["step-0000000010.npz"], [])


def refused(_path: Path, _target: Path) -> None:
    raise PermissionError("no links here")


def interrupted_at(end: str, replace: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    def replacing(path: Path, target: Path) -> Path:
        if str(target).endswith(end):
            raise OSError("interrupted")
        return replace(path, target)

    return replacing


def test_one_of_the_best_is_not_replaced_while_it_waits_for_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()
    encode = Checkpoint.encode

    def slow(checkpoint: Checkpoint) -> bytes:
        assert may_write.wait(60)
        return encode(checkpoint)

    monkeypatch.setattr(Checkpoint, "encode", slow)
    checkpoints = Checkpoints(tmp_path, keep=9)
    for step, best in ((5, None), (10, [10]), (15, None), (20, [10]), (25, None)):
        checkpoints.save(made(step), best=best)
    may_write.set()
    checkpoints.wait()
    assert best_names_of(tmp_path) == ["step-0000000010.npz"]
    assert names(tmp_path) in (
        ["step-0000000005.npz", "step-0000000010.npz", "step-0000000025.npz"],
        ["step-0000000010.npz", "step-0000000025.npz"],  # Where the thread came to its first look only then.
    )


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


# -- Whatever the content ----------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def with_state(state: Any, **more: npt.NDArray[Any]) -> bytes:
    """A checkpoint's file whose state is that text, or that value."""
    with np.load(io.BytesIO(made(4).encode())) as archive:
        members = {name: archive[name] for name in archive.files}
    text = state if isinstance(state, bytes) else json.dumps(state).encode()
    buffer = io.BytesIO()
    np.savez(buffer, **{**members, **more, "state.json": np.frombuffer(text, np.uint8)})
    return buffer.getvalue()


def state_of(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content)) as archive:
        return dict(json.loads(archive["state.json"].tobytes()))


@pytest.mark.parametrize("state", [b"[" * 100_000, b"[]", b"5", b"{}", b"", b"\xff", b'{"format": 2, "types": 5}'])
def test_a_state_that_no_run_has_saved_is_damage(state: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Checkpoint.decode(with_state(state))


@pytest.mark.parametrize(
    "more", [{"\x1b]52;c;YQ==\x07": 1}, {"ended": 1}, {"unevaluated": "\x1b[2J"}, {"step": "\x9b2J"}], ids=ascii
)
def test_what_a_state_holds_gives_a_terminal_no_command(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        Checkpoint.decode(with_state(state_of(made(4).encode()) | more))
    assert str(error.value).isprintable()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_a_checkpoint_holds_it_is_one_or_damaged(data: st.DataObject) -> None:
    state = state_of(made(4).encode())
    state[data.draw(st.sampled_from([*state, "more"]))] = data.draw(JSON)
    try:
        read = Checkpoint.decode(with_state(state))
    except (ValueError, DataError):
        return
    assert type(read.step) is int
    assert read.step >= 0
    assert all(isinstance(value, int | float) for scores in read.history for value in scores.values())
    assert (read.seconds + read.step_seconds + read.step_examples) >= -(2**54)
    assert isinstance(read.identity, dict)
    assert {type(read.ended), type(read.unevaluated)} == {bool}
    Checkpoint.decode(read.encode())


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_is_changed_in_its_bytes(data: st.DataObject) -> None:
    content = bytearray(made(4, size=10).encode())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        Checkpoint.decode(bytes(content[: data.draw(st.integers(0, len(content)))]))
    except (ValueError, DataError):
        return
