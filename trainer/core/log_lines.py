"""The two lines of a worker's log that programs read: how far training is, and what its agent does.

This file owns both directions, writing and reading.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Self

_PREFIX = "progress "
_PAIR = re.compile(r"(\S+?)=(\S+)")
_TOLD_WAIT = 0.05
_MOST_DIGITS = 15  # Of a whole number: whoever prints such a line may be a stranger, or the code that is trained.
_OURS = ("worker", "attempt", "epoch", "step", "examples/s", "images/s", "saved", "data_wait")  # All else is a metric.
_VALIDATION = "val_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far one worker is. Metrics are of the running epoch, over all workers; the loss is the first of them.

    progress worker=0/4 attempt=1 epoch=1/5 step=120/2340 loss=0.4123 accuracy=0.8812 examples/s=23456 saved=100
    """

    worker: int
    workers: int
    attempt: int  # The number of the run's attempt, from 1.
    epoch: int  # The one that runs, from 1.
    epochs: int
    step: int  # Completed steps of the whole run.
    steps: int
    metrics: Mapping[str, float]
    examples_per_second: float  # All workers', since the line before.
    saved: int | None = None  # Step of the newest checkpoint; only the chief knows it.
    data_wait: float | None = None  # The share of time, 0 to 1, in which this worker waited for data; None: in memory.
    validation: Mapping[str, float] | None = None  # Only in the line that ends an epoch; empty without validation data.

    @property
    def loss(self) -> float:
        """The loss; NaN where the line says none."""
        return self.metrics.get("loss", math.nan)

    def first_metrics(self, count: int = 2) -> dict[str, float]:
        """The loss and the metric after it, for where there is no room for all."""
        return dict(list(self.metrics.items())[:count])

    @property
    def ends_epoch(self) -> bool:
        """Whether the line is the last of an epoch."""
        return self.validation is not None

    def flat(self) -> dict[str, object]:
        """All of it by name, the metrics among the rest and those of validation with val_ before their names."""
        rest = {name: value for name, value in vars(self).items() if name not in ("metrics", "validation")}
        return (
            rest
            | dict(self.metrics)
            | {f"{_VALIDATION}{name}": value for name, value in (self.validation or {}).items()}
        )

    def format(self) -> str:
        """The line, without its end."""
        pairs: dict[str, object] = {
            "worker": f"{self.worker}/{self.workers}",
            "attempt": self.attempt,
            "epoch": f"{self.epoch}/{self.epochs}",
            "step": f"{self.step}/{self.steps}",
        }
        pairs |= {_word(name): _number(value) for name, value in self.metrics.items()}
        pairs["examples/s"] = f"{self.examples_per_second:.0f}"
        if self.data_wait is not None:
            pairs["data_wait"] = f"{self.data_wait:.2f}"
        if self.saved is not None:
            pairs["saved"] = self.saved
        if self.validation is not None:
            pairs |= {f"{_VALIDATION}{_word(name)}": _number(value) for name, value in self.validation.items()}
            if not self.validation:
                pairs[f"{_VALIDATION}"] = "none"
        return _PREFIX + " ".join(f"{key}={value}" for key, value in pairs.items())

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """Reads a line that `format` made, or that of an older version did; None for any other line.

        Numbers are such as a run can have: whole, no step beyond the last, no worker beyond the others.
        """
        if not line.startswith(_PREFIX):
            return None
        pairs = dict(_PAIR.findall(line[len(_PREFIX) :]))
        try:
            (worker, workers), (epoch, epochs), (step, steps) = (
                map(_whole, pairs[key].split("/")) for key in ("worker", "epoch", "step")
            )
            speed = float(pairs["examples/s" if "examples/s" in pairs else "images/s"])
            if worker >= workers or not 0 < steps >= step:
                return None
            measured = {name: value for name, value in pairs.items() if name not in _OURS}
            validation = {
                name.removeprefix(_VALIDATION): float(value)
                for name, value in measured.items()
                if name.startswith(_VALIDATION) and name != _VALIDATION
            }
            return cls(
                worker=worker,
                workers=workers,
                attempt=_whole(pairs["attempt"]),
                epoch=epoch,
                epochs=epochs,
                step=step,
                steps=steps,
                metrics={name: float(value) for name, value in measured.items() if not name.startswith(_VALIDATION)},
                examples_per_second=speed if 0 <= speed < 10**_MOST_DIGITS else 0.0,
                saved=_whole(pairs["saved"]) if "saved" in pairs else None,
                data_wait=_share(pairs["data_wait"]) if "data_wait" in pairs else None,
                validation=validation if validation or _VALIDATION in pairs else None,
            )
        except (KeyError, ValueError):
            return None


def metrics_text(metrics: Mapping[str, float], *, prefix: str = "") -> str:
    """Metrics for a person: loss 0.4123  accuracy 0.8812."""
    return "  ".join(f"{prefix}{name} {_number(value)}" for name, value in metrics.items())


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise ValueError(f"{text[:20]!r} is no whole number of a run")
    return int(text)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError(f"{text[:20]!r} is no share")
    return share


def data_wait_text(progress: Progress) -> str:
    """For a person, where a worker waits for data more than now and then: "  waits 23% for data"."""
    return f"  waits {progress.data_wait:.0%} for data" if (progress.data_wait or 0) >= _TOLD_WAIT else ""


def _word(name: str) -> str:
    """A metric's name as one word."""
    return re.sub(r"[\s=]+", "_", name) or "_"


def _number(value: float) -> str:
    return f"{value:.4f}" if not math.isfinite(value) or value == 0 or abs(value) >= 0.001 else f"{value:.3g}"


STATES = ("new", "meeting", "starting", "training", "stopping", "ended")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StateLine:
    """The line in which an agent says what it does; watchers read it beside the progress lines.

    agent worker=1/4 attempt=2 state=training restarts=1 pid=4711 spare=ready last=peer_lost
    """

    worker: int
    workers: int
    attempt: int  # 0 before the first.
    state: str  # One of STATES.
    restarts: int  # How often this agent has restarted the training process.
    pid: int  # The training process's; 0: none runs.
    spare: str  # "none", "waking" or "ready".
    last: str  # How the last attempt ended here, a `causes.Cause`; "new" before.

    def format(self) -> str:
        """The line, without its end."""
        return (
            f"agent worker={self.worker}/{self.workers} attempt={self.attempt} state={self.state} "
            f"restarts={self.restarts} pid={self.pid} spare={self.spare} last={self.last}"
        )

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """Reads a line that `format` made; None for any other line."""
        match = _STATE_LINE.fullmatch(line)
        if match is None:
            return None
        worker, workers, attempt, state, restarts, pid, spare, last = match.groups()
        if int(worker) >= int(workers):
            return None
        return cls(
            worker=int(worker),
            workers=int(workers),
            attempt=int(attempt),
            state=state,
            restarts=int(restarts),
            pid=int(pid),
            spare=spare,
            last=last,
        )


_STATE_LINE = re.compile(
    r"agent worker=(\d{1,15})/(\d{1,15}) attempt=(\d{1,15}) state=(\w{1,20}) restarts=(\d{1,15}) pid=(\d{1,15}) "
    r"spare=(\w{1,20}) last=(\w{1,20})",
    re.ASCII,
)
