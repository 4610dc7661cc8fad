"""Where the time of a run went, from the chief's log. Pure: times come with the lines."""

import dataclasses

from trainer.observed import Seen
from trainer.progress import Progress
from trainer.status import StateLine


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds of a run."""

    queued: float  # Until all pods had a node.
    starting: float  # Until all containers ran: pulling, mostly.
    meeting: float  # Until the first step: rendezvous, TensorFlow's start.
    training: float  # Steps that counted.
    lost: float  # After the first step: restarts, and steps that were made twice.

    @property
    def total(self) -> float:
        """Their sum."""
        return self.queued + self.starting + self.meeting + self.training + self.lost

    @property
    def goodput(self) -> float:
        """The share of the time that went into steps that counted."""
        return self.training / self.total if self.total else 0.0


class Timeline:
    """What the chief's agents have said so far."""

    def __init__(self) -> None:
        """Knows nothing yet."""
        self.attempt = 0
        self.progress: Progress | None = None
        self._training_since: float | None = None
        self._trained = 0.0
        self._repeated = 0  # Steps.
        self._made = 0  # Steps, repeated ones too.
        self._first: float | None = None  # When training first began.
        self._last: float | None = None  # The last line.

    def take(self, time: float, state: StateLine | None, progress: Progress | None) -> None:
        """A state or progress line of the chief's log, and its Unix time."""
        if state is not None:
            self.attempt = max(self.attempt, state.attempt)
            if state.state == "training":
                self._begin(time)
            elif self._training_since is not None:
                self._end(time)
        if progress is not None:
            self._begin(time)
            before = self.progress
            steps = progress.step - before.step if before else progress.step
            if before and progress.attempt != before.attempt and steps < 0:
                self._repeated -= steps
            else:
                self._made += steps
            self.attempt, self.progress = max(self.attempt, progress.attempt), progress
        self._last = time

    def pod_lost(self, time: float) -> None:
        """The chief's pod has ended without a word."""
        if self._training_since is not None:
            self._end(max(time, self._training_since))

    def spent(self, seen: Seen, end: float) -> Spent:
        """Where the time from the Job's creation to `end` went."""
        created, limit = seen.job.created, end if self._first is None else self._first
        first = {pod.index: pod for pod in reversed(seen.pods)}.values()
        # A pod that came after the first step replaced one that is no longer known.
        scheduled = max([created, *(p.scheduled for p in first if p.scheduled and p.scheduled <= limit)])
        started = max([scheduled, *(p.started for p in first if p.started and p.started <= limit)])
        if not first:
            scheduled = started = end
        if self._first is None:
            return Spent(
                queued=scheduled - created,
                starting=started - scheduled,
                meeting=max(0.0, end - started),
                training=0.0,
                lost=0.0,
            )
        trained = self._trained
        if self._training_since is not None:
            trained += max(0.0, (self._last or end) - self._training_since)
        rate = self._made / trained if trained else 0.0
        twice = min(trained, self._repeated / rate) if rate else 0.0
        return Spent(
            queued=scheduled - created,
            starting=started - scheduled,
            meeting=max(0.0, self._first - started),
            training=trained - twice,
            lost=max(0.0, end - max(self._first, started) - trained) + twice,
        )

    def _begin(self, time: float) -> None:
        if self._training_since is None:
            self._training_since = time
            self._first = time if self._first is None else self._first

    def _end(self, time: float) -> None:
        if self._training_since is not None:
            self._trained += max(0.0, time - self._training_since)
            self._training_since = None
