"""The training program as people start it by accident: outputs nobody can write to, a ~ that no shell has replaced."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TRAINS = f"{sys.executable} -m trainer --experiment=trainer.mnist --epochs=1 --hidden_units=8"


def run(command: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    everything = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder / "home"), **environ}
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=everything, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    ("flags", "after", "environ"),
    [
        ("--seed=4294967296", "", {}),
        ("--global_batch_size=96", "", {"PYTHONIOENCODING": "ascii"}),  # It leaves some out, and says so with a ×.
        pytest.param("", ">&- 2>&-", {}, marks=pytest.mark.thorough),
    ],
)
def test_it_trains_to_its_end(
    flags: str, after: str, environ: dict[str, str], small_mnist: Path, tmp_path: Path
) -> None:
    done = run(f"{TRAINS} --data_dir={small_mnist} '--run_dir=~/x' {flags} {after}", tmp_path, **environ)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "home" / "x" / "result.json").read_text())["epochs"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["home"]  # No folder of the name ~.


def test_a_link_to_nowhere_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    done = run(f"{TRAINS} --run_dir=link", tmp_path)
    assert done.returncode == 64
    assert done.stderr == f"error: --run_dir=link is a link to {tmp_path}/nowhere, which is not there\n"


def test_nothing_is_left_in_the_folder_for_temporary_files(small_mnist: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    flags = f"--data_dir={small_mnist} --run_dir=run --export=savedmodel"
    done = run(f"{TRAINS} {flags}", tmp_path, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert list(temporary.iterdir()) == []
    done = run(f"{sys.executable} -m trainer.export run --export=tflite", tmp_path, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert list(temporary.iterdir()) == []
