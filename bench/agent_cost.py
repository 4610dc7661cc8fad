"""What an agent costs the training process that it runs beside, on one core that they share.

Measured are the throughput with and without an agent, in turns, and the CPU time that the agent takes while steps are
made: it cannot take away more, and CPU time is exact to a degree that a throughput is not.
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

from bench.report.table import Row
from trainer.core.free_ports import free_ports
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
        program = ("trainer.agent", f"--port={free_ports(1)[0]}", "--") if agent else ("trainer",)
        core = max(os.sched_getaffinity(0))
        process = spawn((sys.executable, "-m", *program, *flags), os.environ, output=subprocess.PIPE, cores=[core])
        readings: list[tuple[float, float]] = []  # At each progress line: the time, and the CPU seconds so far.
        for line in process.stdout or ():
            if line.startswith(b"progress "):
                readings.append((time.monotonic(), cpu_seconds(process.pid)))
        if process.wait():
            raise SystemExit(f"training ended with {process.returncode}: {(process.stderr or sys.stdin).read()!r}")
        (began, before), (ended, after) = readings[0], readings[-1]
        examples_per_second = json.loads((run_dir / "result.json").read_text())["examples_per_second"]
        return examples_per_second, (after - before) / (ended - began)


def cpu_seconds(pid: int) -> float:
    """The CPU seconds that a process has used so far, without those of its children."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure() -> Iterator[Row]:
    """The medians of the rounds."""
    pairs = [(train(agent=False)[0], *train(agent=True)) for _ in range(ROUNDS)]
    without, beside, cpu = (statistics.median(column) for column in zip(*pairs, strict=True))
    yield Row(
        f"examples/s on one core beside an agent, of those without (median of {ROUNDS})", beside / without, "≥ 0.99"
    )
    yield Row("share of the core that the agent takes, in %", 100 * cpu, "≤ 1")
