"""What an agent costs the training process beside which it runs, on one core that they share.

The throughput with and without, in turns; and the CPU time that the agent takes while steps are made, which is what it
could take away at most and is measured to a finer grain than the noise of a throughput.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from bench.table import Row
from trainer.core.ports import free_ports
from trainer.core.process import spawn

ROUNDS = 5


def train(*, agent: bool) -> tuple[float, float]:
    """Trains on one core.

    Returns:
      Images per second, and the agent's CPU seconds per second between the first and the last step.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_dir = pathlib.Path(folder) / "run"
        flags = (f"--run_dir={run_dir}", "--epochs=3")
        own = (
            ("-m", "trainer.agent", f"--port={free_ports(1)[0]}", "--", *flags) if agent else ("-m", "trainer", *flags)
        )
        core = max(os.sched_getaffinity(0))
        process = spawn((sys.executable, *own), os.environ, output=subprocess.PIPE, cores=[core])
        seen: list[tuple[float, float]] = []
        for line in process.stdout or ():
            if line.startswith(b"progress "):
                seen.append((time.monotonic(), cpu_seconds(process.pid)))
        if process.wait():
            raise SystemExit(f"training ended with {process.returncode}: {(process.stderr or sys.stdin).read()!r}")
        (began, before), (ended, after) = seen[0], seen[-1]
        return json.loads((run_dir / "result.json").read_text())["images_per_second"], (after - before) / (
            ended - began
        )


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, its children not counted."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure() -> Iterator[Row]:
    """Medians over the rounds."""
    pairs = [(train(agent=False)[0], *train(agent=True)) for _ in range(ROUNDS)]
    without, beside, cpu = (statistics.median(column) for column in zip(*pairs, strict=True))
    yield Row(
        f"images/s on one core beside an agent, of those without (median of {ROUNDS})", beside / without, "≥ 0.99"
    )
    yield Row("share of the core that the agent takes, in %", 100 * cpu, "≤ 1")
