"""How soon the launcher says something: from its start to its first line, which is that of the check of Helm."""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from bench.report.table import Row

ROUNDS = 7


def seconds(helm: pathlib.Path) -> float:
    """From the start to the first line, without a cluster and with a Helm that answers at once."""
    began = time.monotonic()
    command = (sys.executable, "-m", "trainer.launch", f"--helm={helm}")
    environ = {**os.environ, "KUBECONFIG": str(helm.parent / "none")}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        assert process.stdout.readline().startswith(b"ok")
        return time.monotonic() - began


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        helm = pathlib.Path(folder) / "helm"
        helm.write_text("#!/bin/sh\necho v4.0.0\n")
        helm.chmod(0o755)
        yield Row(
            "start of the launcher to its first line, seconds",
            statistics.median(seconds(helm) for _ in range(ROUNDS)),
            "≤ 1",
        )
