"""How the start of a run and its recovery grow with the number of workers.

Up to 64 workers are real agents with a small process in the place of training; TensorFlow's own start and step are
left out. Beyond that one agent is real, the chief's, with the coordinator in it, and those of the others are simulated
by one process. All of them share this machine, whereas workers have one each: what is measured is an upper bound.
"""

import pathlib
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator

from bench.report.table import Row
from tests.support.agents import Run, running
from tests.support.simulated_agents import measure as simulate

REAL = (2, 4, 8, 16, 32, 64)
SIMULATED = (64, 250, 1000, 4096)
LIMITS = {1000: (10.0, 1.0, 150.0), 4096: (40.0, float("inf"), float("inf"))}  # Seconds, seconds, MB.


def real(workers: int) -> tuple[float, float]:
    """Starts a run and kills one of its training processes.

    Returns:
      Seconds from the start of the agents to the first step of all workers, and from the kill to the next.
    """
    with tempfile.TemporaryDirectory() as folder:
        flags, environ = ["--epochs=100000"], {"STEP_SECONDS": "0.1"}
        with running(pathlib.Path(folder), workers, trainer_flags=flags, environ=environ) as run:
            began = time.monotonic()
            run.start_all()
            start = _seconds_until_a_step(run, 1, began)
            began = time.monotonic()
            run.agents[workers - 1].signal_training(signal.SIGKILL)
            return start, _seconds_until_a_step(run, 2, began)


def _seconds_until_a_step(run: Run, attempt: int, began: float) -> float:
    run.agents[0].wait_for_step(1, attempt)  # A step needs all workers.
    return time.monotonic() - began


def _line(points: list[tuple[int, float]]) -> tuple[float, float]:
    slope, at_zero = statistics.linear_regression(*zip(*points, strict=True))
    return at_zero, 1000 * slope


def measure() -> Iterator[Row]:
    """The figures, and the straight lines through them."""
    points: dict[str, list[tuple[int, float]]] = {"start": [], "recovery": []}
    for workers in REAL:
        for name, seconds in zip(points, real(workers), strict=True):
            points[name].append((workers, seconds))
            yield Row(f"{name} of {workers} real agents to the next step, seconds", seconds)
    for name, measured in points.items():
        at_zero, slope = _line(measured)
        yield Row(f"{name}: a constant of ... seconds", at_zero)
        yield Row(f"{name}: and so many milliseconds for each worker", slope)
    for workers in SIMULATED:
        with tempfile.TemporaryDirectory() as folder:
            figures = simulate(pathlib.Path(folder), workers)
        total, failure, memory = LIMITS.get(workers, (float("inf"),) * 3)
        for what, figure, limit in (
            ("to the first attempt, seconds", figures.begin, float("inf")),
            ("a failure seen by all, seconds", figures.failure, failure),
            ("to the next attempt, seconds", figures.again, float("inf")),
            ("the end heard by all, seconds", figures.end, float("inf")),
            ("all of it, seconds", figures.total, total),
            ("the chief's agent, MB at most", figures.memory, memory),
            ("the chief's agent, CPU seconds", figures.cpu, float("inf")),
        ):
            yield Row(f"{workers} workers, simulated: {what}", figure, f"≤ {limit:g}" if limit < float("inf") else "")
