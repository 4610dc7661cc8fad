"""A run directory is one process's alone: two starts at a time do not write into one, whatever a killed one leaves."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from absl import logging

from tests.support.paths import ROOT
from tests.support.training_processes import Training
from trainer.core.exit_codes import UsageError
from trainer.training.state import run_lock

HOLDS = """
import os, sys
from pathlib import Path
from trainer.training.state import run_lock
run_lock.hold(Path(sys.argv[1]))
if sys.argv[2] == "fork" and os.fork():
    os._exit(0)
print("holds it", flush=True)
sys.stdin.read()
"""


def content(folder: Path) -> dict[str, float]:
    return {str(path.relative_to(folder)): path.stat().st_mtime for path in folder.rglob("*")}


def holder(folder: Path, *, forked: bool = False) -> "subprocess.Popen[str]":
    """A process that holds a folder, or its child that has outlived it, until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder), "fork" if forked else ""],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "holds it\n"
    return process


def test_a_second_start_in_a_runs_folder_is_refused_and_has_written_nothing(training: Training, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".tmp.step-0000000005.npz").write_bytes(b"that the first one writes")
    before = content(tmp_path)
    with holder(tmp_path) as first:
        alone = training.start(f"--run_dir={tmp_path}")
        workers = training.start_workers(2, f"--run_dir={tmp_path}")
        said = (
            f"--run_dir={tmp_path} is in use by process {first.pid}; wait until that has ended, or name another folder"
        )
        assert alone.wait() == 64, alone.text
        assert alone.lines == [f"error: {said}"]
        for worker in workers:
            assert worker.wait() == 64, worker.text
            assert worker.lines == [f"error: on the chief: {said}"]
        assert content(tmp_path) == before
        first.communicate()


def test_a_start_right_after_a_kill_goes_on(training: Training, tmp_path: Path) -> None:
    flags = (f"--run_dir={tmp_path}", "--experiment=tests.experiments.paced", "--global_batch_size=64")
    first = training.start(*flags, "--epochs=1000", environ={"PACE": "0.05"})
    first.wait_for_step(1)
    first.kill()
    training.run(*flags, "--epochs=1")


def test_a_child_that_outlives_the_run_does_not_hold_its_folder(tmp_path: Path) -> None:
    with holder(tmp_path, forked=True) as child:
        run_lock.hold(tmp_path)
        child.communicate()


def test_what_cannot_be_locked_is_written_all_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A volume on the network is not to be had here: what its locks answer is."""
    warned: list[str] = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: warned.append(text % values))
    monkeypatch.setattr(run_lock, "_VANISH_SECONDS", 0.1)
    run_lock.hold(tmp_path / "somebody has removed it")
    for code in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP):
        folder = tmp_path / str(code)
        folder.mkdir()
        monkeypatch.setattr(fcntl, "flock", refuse(code))
        run_lock.hold(folder)
    assert not warned
    monkeypatch.setattr(fcntl, "flock", refuse(errno.EAGAIN))  # And no process of this machine has it.
    run_lock.hold(tmp_path)
    assert warned == [f"--run_dir={tmp_path} is in use by another machine, or by one that was lost: this run goes on"]


def test_a_folder_that_is_held_is_refused_after_a_while(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_lock, "_VANISH_SECONDS", 0.1)
    with holder(tmp_path) as first:
        with pytest.raises(UsageError, match=rf"is in use by process {first.pid};"):
            run_lock.hold(tmp_path)
        first.communicate()
        run_lock.hold(tmp_path)


def refuse(code: int) -> Any:
    def flock(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    return flock
