"""Outputs that nobody reads, or whose disk is full: what was asked for is done, and no traceback is its end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT


def unread(folder: Path, *arguments: str, full: bool = False, both: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs a program whose output goes to a full disk, or to a pipe that nobody has open any more.

    Args:
      folder: where it runs.
      arguments: the module, and its flags.
      full: whether it is the disk.
      both: whether standard error goes there, too, as with `2>&1`.
    """
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full" if full else writer, "wb") as output:
        return subprocess.run(
            [sys.executable, "-m", *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output, stderr=output if both else subprocess.PIPE, text=True,
        )  # fmt: skip


TRAINS = ("trainer", "--epochs=2", "--hidden_units=8", "--threads=1", "--run_dir=run")
FULL = "warning: standard output cannot be written to (No space left on device): what is said from now on is lost\n"


@pytest.mark.parametrize(("full", "said"), [(False, ""), pytest.param(True, FULL, marks=pytest.mark.thorough)])
def test_a_run_goes_on_to_its_end(full: bool, said: str, small_mnist: Path, tmp_path: Path) -> None:
    done = unread(tmp_path, *TRAINS, f"--data_dir={small_mnist}", full=full)
    assert (done.returncode, done.stderr) == (0, said)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 2
    done = unread(tmp_path, "trainer.export", "run", full=full)
    assert (done.returncode, done.stderr) == (0, said)
    assert (tmp_path / "run" / "export" / "saved_model" / "saved_model.pb").exists()


@pytest.mark.parametrize("full", [pytest.param(False, marks=pytest.mark.thorough), True])
def test_the_exit_code_is_what_it_would_be(full: bool, small_mnist: Path, tmp_path: Path) -> None:
    """TensorFlow's own words go to standard error, too."""
    flags = (*TRAINS, f"--data_dir={small_mnist}", "--export=savedmodel")
    assert unread(tmp_path, *flags, full=full, both=True).returncode == 0
    assert unread(tmp_path, "trainer", "--epochs=0", full=full, both=True).returncode == 64
    assert unread(tmp_path, "trainer.export", "nowhere", full=full, both=True).returncode == 64
