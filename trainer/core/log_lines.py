"""The two lines of a worker's log that programs read: how far training is, and what its agent does.

This file owns both directions, writing and reading.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

_PREFIX = "progress "
_PAIR = re.compile(r"(?<!\S)([^\s=]+)=(\S+)")  # From a word's start alone: a long word is looked through once.
_MOST_DIGITS = 15  # Of a whole number: whoever prints such a line may be a stranger, or the code that is trained.
_TOLD_WAIT = 0.05
_VALIDATION = "val_"


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise ValueError(f"{text[:20]!r} is no whole number of a run")
    return int(text)


def _speed(text: str) -> float:
    speed = float(text)
    return speed if 0 <= speed < 10**_MOST_DIGITS else 0.0


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError(f"{text[:20]!r} is no share")
    return share


def _key(name: str, *, read: Callable[[str], float] = _whole, digits: int = 0) -> dict[str, Any]:
    """What a field is called in the line, how it is read, its digits; two in a row of one name are written as a/b."""
    return {"key": name, "read": read, "digits": digits}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far one worker is. Metrics are of the running epoch, over all workers; the loss is the first of them.

    progress worker=0/4 attempt=1 epoch=1/5 step=120/2340 loss=0.4123 accuracy=0.8812 examples/s=23456 saved=100

    The fields stand in the line in their order. A new one has a key here, and None for its default, since the lines of
    older versions lack it. It is a number: an older version that reads the line takes it for a metric.
    """

    worker: int = dataclasses.field(metadata=_key("worker"))
    workers: int = dataclasses.field(metadata=_key("worker"))
    attempt: int = dataclasses.field(metadata=_key("attempt"))  # The number of the run's attempt, from 1.
    epoch: int = dataclasses.field(metadata=_key("epoch"))  # The one that runs, from 1.
    epochs: int = dataclasses.field(metadata=_key("epoch"))
    step: int = dataclasses.field(metadata=_key("step"))  # Completed steps of the whole run.
    steps: int = dataclasses.field(metadata=_key("step"))
    metrics: Mapping[str, float]  # Those that have no key here, by their names.
    # All workers', since the line before.
    examples_per_second: float = dataclasses.field(metadata=_key("examples/s", read=_speed))
    # Step of the newest checkpoint; only the chief knows it.
    saved: int | None = dataclasses.field(default=None, metadata=_key("saved"))
    # The share of the time since the line before in which this worker waited for data; None where it is in memory.
    data_wait: float | None = dataclasses.field(default=None, metadata=_key("data_wait", read=_share, digits=2))
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
        """All of it by name, the metrics among the rest and those of validation with val_ before their names.

        A metric that is called as a field is left out: what it is called, the code that is trained decides.
        """
        rest = {name: getattr(self, name) for name in PROGRESS_FIELDS}
        validation = {f"{_VALIDATION}{name}": value for name, value in (self.validation or {}).items()}
        return {**rest, **self.metrics, **validation, **rest}

    def format(self) -> str:
        """The line, without its end."""
        pairs: dict[str, str] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "metrics":
                metrics = {_word(name): _number(number) for name, number in self.metrics.items()}
                pairs |= {name: text for name, text in metrics.items() if name not in {*_KEYS, *_KEYS_OF_0_1_0}}
            elif field.name == "validation" and self.validation is not None:
                pairs |= {f"{_VALIDATION}{_word(name)}": _number(number) for name, number in self.validation.items()}
                if not self.validation:
                    pairs[_VALIDATION] = "none"
            elif (key := field.metadata.get("key")) and value is not None:
                text = f"{value:.{field.metadata['digits']}f}"
                pairs[key] = f"{pairs[key]}/{text}" if key in pairs else text
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
            values = dict(_values(pairs))
            measured = {name: float(text) for name, text in pairs.items() if name != _VALIDATION}
        except (KeyError, ValueError):
            return None
        if values["worker"] >= values["workers"] or not 0 < values["steps"] >= values["step"]:
            return None
        validation = {
            name.removeprefix(_VALIDATION): value for name, value in measured.items() if name.startswith(_VALIDATION)
        }
        return cls(
            **values,
            metrics={name: value for name, value in measured.items() if not name.startswith(_VALIDATION)},
            validation=validation if validation or _VALIDATION in pairs else None,
        )


_KEYED = tuple(field for field in dataclasses.fields(Progress) if field.metadata)
PROGRESS_FIELDS = tuple(field.name for field in _KEYED)
"""What `Progress.flat` names beside metrics."""
_KEYS = frozenset(field.metadata["key"] for field in _KEYED)
_KEYS_OF_0_1_0 = {"images/s": "examples/s"}


def _values(pairs: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """The fields that have a key, by name; takes their keys out of `pairs`.

    Raises:
      KeyError: one without a default is missing.
      ValueError: one is no number that a run can have.
    """
    for older, key in _KEYS_OF_0_1_0.items():
        if older in pairs:
            pairs.setdefault(key, pairs.pop(older))
    for key, fields in itertools.groupby(_KEYED, lambda field: field.metadata["key"]):
        alike = list(fields)
        if key not in pairs and alike[0].default is None:
            continue
        for field, text in zip(alike, pairs.pop(key).split("/", len(alike) - 1), strict=True):
            yield field.name, field.metadata["read"](text)


def metrics_text(metrics: Mapping[str, float], *, prefix: str = "") -> str:
    """Metrics for a person: loss 0.4123  accuracy 0.8812."""
    return "  ".join(f"{prefix}{name} {_number(value)}" for name, value in metrics.items())


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
