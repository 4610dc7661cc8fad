"""The two lines of a worker's log that programs read: how far training is, and what its agent does.

This file owns both directions, writing and reading.
"""

import dataclasses
import re
from typing import Self

_PREFIX = "progress "
_PAIR = re.compile(r"([a-z_/]+)=(\S+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far one worker is. Loss and accuracy are means over the running epoch, of all workers.

    progress worker=0/4 attempt=1 epoch=1/5 step=120/2340 loss=0.4123 accuracy=0.8812 images/s=23456 saved=100
    """

    worker: int
    workers: int
    attempt: int  # Of the run's attempts, from 1.
    epoch: int  # The one that runs, from 1.
    epochs: int
    step: int  # Completed steps of the whole run.
    steps: int
    loss: float
    accuracy: float
    images_per_second: float  # Of all workers, since the line before.
    saved: int | None = None  # Step of the newest checkpoint; only the chief knows it.
    val_loss: float | None = None  # With val_accuracy, only in the line that ends an epoch.
    val_accuracy: float | None = None

    def format(self) -> str:
        """The line, without its end."""
        pairs = {
            "worker": f"{self.worker}/{self.workers}",
            "attempt": self.attempt,
            "epoch": f"{self.epoch}/{self.epochs}",
            "step": f"{self.step}/{self.steps}",
            "loss": f"{self.loss:.4f}",
            "accuracy": f"{self.accuracy:.4f}",
            "images/s": f"{self.images_per_second:.0f}",
        }
        if self.saved is not None:
            pairs["saved"] = self.saved
        if self.val_loss is not None and self.val_accuracy is not None:
            pairs |= {"val_loss": f"{self.val_loss:.4f}", "val_accuracy": f"{self.val_accuracy:.4f}"}
        return _PREFIX + " ".join(f"{key}={value}" for key, value in pairs.items())

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """Reads a line that `format` made; None for any other line."""
        if not line.startswith(_PREFIX):
            return None
        pairs = dict(_PAIR.findall(line))
        try:
            (worker, workers), (epoch, epochs), (step, steps) = (
                map(int, pairs[key].split("/")) for key in ("worker", "epoch", "step")
            )
            return cls(
                worker=worker,
                workers=workers,
                attempt=int(pairs["attempt"]),
                epoch=epoch,
                epochs=epochs,
                step=step,
                steps=steps,
                loss=float(pairs["loss"]),
                accuracy=float(pairs["accuracy"]),
                images_per_second=float(pairs["images/s"]),
                saved=int(pairs["saved"]) if "saved" in pairs else None,
                val_loss=float(pairs["val_loss"]) if "val_loss" in pairs else None,
                val_accuracy=float(pairs["val_accuracy"]) if "val_accuracy" in pairs else None,
            )
        except (KeyError, ValueError):
            return None


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
    restarts: int  # Of the training process by this agent.
    pid: int  # Of the training process; 0: none runs.
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
    r"agent worker=(\d+)/(\d+) attempt=(\d+) state=(\w+) restarts=(\d+) pid=(\d+) spare=(\w+) last=(\w+)"
)
