"""What weights that are not trained cost two workers, beside the same as constants: they do not travel."""

import statistics
import sys
from collections.abc import Iterator

from bench.report.table import Row
from bench.training import PROGRAMS, pair

BATCH, STEPS, TURNS = 128, 20, 5
KINDS = ("frozen", "constants", "trained")


def measure() -> Iterator[Row]:
    step = [sys.executable, str(PROGRAMS / "step.py"), str(BATCH), str(STEPS), "--experiment=bench.programs.frozen"]
    turns = [{kind: pair([*step, f"--layers={kind}"], cluster=True) for kind in KINDS} for _ in range(TURNS)]
    for kind, limit in (("frozen", "≤ 1.1"), ("trained", "")):
        ratio = statistics.median(turn[kind] / turn["constants"] for turn in turns)
        yield Row(f"2 workers, two {kind} layers of 1,500 units: a step / with constants in their place", ratio, limit)
