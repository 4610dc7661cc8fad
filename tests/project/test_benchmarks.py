"""What a benchmark says that cannot be run here."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from trainer.training.hardware import cuda


@pytest.mark.skipif(bool(cuda.driver_version()), reason="here is a GPU")
def test_the_benchmark_of_a_gpu_refuses_a_machine_without_one() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "gpu"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "== gpu\n")
    assert done.stderr.startswith("bench: no NVIDIA driver here; this benchmark is of a GPU")
    assert len(done.stderr.splitlines()) == 1
