"""What an agent knows of its worker, for its state line, the probes and the metrics."""

import collections
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainer.core.log_lines import Progress, StateLine

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class Status:
    """How far the worker is, as far as its progress lines tell; a collector of Prometheus metrics."""

    def __init__(self, *, worker: int, workers: int) -> None:
        """Knows of no attempt yet."""
        self._lock = threading.Lock()
        self._line = StateLine(
            worker=worker, workers=workers, attempt=0, state="new", restarts=0, pid=0, spare="none", last="new"
        )
        self._restarts: collections.Counter[str] = collections.Counter()
        self._progress: Progress | None = None
        self._moved = time.monotonic()  # When the step last changed, or the attempt began.
        self._first: Progress | None = None  # The first line of the running attempt.
        self._first_at: float | None = None

    def change(self, **changes: int | str) -> StateLine | None:
        """Sets fields of the state line; returns the line if that has changed it."""
        with self._lock:
            before = self._line
            self._line = dataclasses.replace(before, **changes)  # type: ignore[arg-type]
            return self._line if self._line != before else None

    def begin_attempt(self) -> None:
        """An attempt starts: the time without a step counts from now, and no line of it was seen."""
        with self._lock:
            self._moved, self._first, self._first_at = time.monotonic(), None, None

    def restarted(self, cause: str) -> None:
        """Counts a restart of the training process."""
        with self._lock:
            self._restarts[cause] += 1
            self._line = dataclasses.replace(self._line, restarts=self._restarts.total())

    def moved(self) -> None:
        """The training process gets on, though it makes no step yet."""
        with self._lock:
            self._moved = time.monotonic()

    def progressed(self, progress: Progress) -> bool:
        """Takes in a progress line; returns whether it is the attempt's first."""
        with self._lock:
            before, self._progress = self._progress, progress
            if before is None or before.step != progress.step or progress.ends_epoch:
                self._moved = time.monotonic()
            if first := self._first is None:
                self._first, self._first_at = progress, time.monotonic()
            return first

    @property
    def worker(self) -> int:
        """The worker's index."""
        return self._line.worker

    @property
    def workers(self) -> int:
        """The number of workers."""
        return self._line.workers

    @property
    def state(self) -> str:
        """One of STATES."""
        return self._line.state

    @property
    def step(self) -> int:
        """The last completed step that was seen, of any attempt; 0 before."""
        return self._progress.step if self._progress else 0

    @property
    def restarts(self) -> int:
        """How often this agent has started the training process again."""
        return self._line.restarts

    @property
    def has_stepped(self) -> bool:
        """Whether the running attempt has made a step, or more."""
        return self._first is not None

    @property
    def first(self) -> tuple[float | None, int | None]:
        """When the first progress line of the running attempt came, in time.monotonic's seconds, and its step."""
        return self._first_at, self._first.step if self._first else None

    @property
    def seconds_since_step(self) -> float:
        """Seconds since the step changed, or since the attempt began."""
        return time.monotonic() - self._moved

    def collect(self) -> Iterator["Metric"]:
        """The metrics, as prometheus_client asks a collector for them."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
        )  # Imported only where metrics are asked for.

        with self._lock:
            progress, line, restarts = self._progress, self._line, dict(self._restarts)
        yield GaugeMetricFamily("trainer_attempt", "Number of the attempt, from 1", line.attempt)
        yield GaugeMetricFamily("trainer_training", "Whether the attempt makes steps", line.state == "training")
        yield GaugeMetricFamily("trainer_spare_ready", "Whether a warm spare waits", line.spare == "ready")
        yield GaugeMetricFamily(
            "trainer_seconds_since_last_step", "Seconds since the step last changed", self.seconds_since_step
        )
        counter = CounterMetricFamily("trainer_restarts", "Restarts of the training process", labels=["cause"])
        for cause, count in sorted(restarts.items()):
            counter.add_metric([cause], count)
        yield counter
        if progress is None:
            return
        yield GaugeMetricFamily("trainer_step", "Completed steps of the run", progress.step)
        yield GaugeMetricFamily("trainer_steps", "Steps of the whole run", progress.steps)
        yield GaugeMetricFamily("trainer_epoch", "The epoch that runs, from 1", progress.epoch)
        yield GaugeMetricFamily("trainer_loss", "Mean over the running epoch", progress.loss)
        measured = GaugeMetricFamily("trainer_metric", "A metric of the running epoch", labels=["name"])
        for name, value in progress.metrics.items():
            measured.add_metric([name], value)
        yield measured
        yield GaugeMetricFamily("trainer_examples_per_second", "Of all workers", progress.examples_per_second)
        if progress.data_wait is not None:
            yield GaugeMetricFamily(
                "trainer_data_wait_share", "Of the time since the line before, in waiting for data", progress.data_wait
            )
