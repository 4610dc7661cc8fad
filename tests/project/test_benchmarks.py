"""What a benchmark says that cannot be run here."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import profiled
from tests.support.paths import ROOT
from trainer.training.hardware import cuda


@pytest.mark.skipif(bool(cuda.driver_version()), reason="here is a GPU")
def test_the_benchmark_of_a_gpu_refuses_a_machine_without_one() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "gpu"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "== gpu\n")
    assert done.stderr.startswith("bench: no NVIDIA driver here; this benchmark is of a GPU")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.thorough
def test_the_tables_of_speed_come_with_a_profile(tmp_path: Path) -> None:
    assert f"{tmp_path}/2" in profiled.write(tmp_path)
    (file,) = tmp_path.glob("*/train/plugins/profile/*/*.xplane.pb")
    assert file.stat().st_size > 1000
