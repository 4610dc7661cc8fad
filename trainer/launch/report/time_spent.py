"""Where the time of a run went, from the chief's log. Pure: times come with the lines."""

import dataclasses

from trainer.core.log_lines import Progress, StateLine
from trainer.launch.cluster.objects import Seen


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds of a run."""

    queued: float  # Until all pods had a node.
    starting: float  # Until all containers ran: pulling, mostly.
    meeting: float  # Until the first step: rendezvous, TensorFlow's start.
    training: float  # Steps that counted.
    lost: float  # After the first step: restarts, and steps that were made twice.
    unknown: float = 0.0  # Before the first line of what is left of the chief's logs, if that is not the first of all.

    @property
    def total(self) -> float:
        """Their sum."""
        return self.unknown + self.known

    @property
    def known(self) -> float:
        """Those of which is known what they were for."""
        return self.queued + self.starting + self.meeting + self.training + self.lost

    @property
    def goodput(self) -> float:
        """The share of the known time that went into steps that counted."""
        return self.training / self.known if self.known else 0.0


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
        self._heard: float | None = None  # The first line.
        self._oldest = 0  # The first attempt of which a line tells.
        self._mark: tuple[float, int] | None = None  # The time and the step of the running attempt's first progress.
        self._progressed = 0.0  # The time of the last progress.

    @property
    def waits(self) -> bool:
        """Whether the chief's agent has spoken and no attempt has begun yet."""
        return self._heard is not None and self.attempt == 0

    @property
    def step(self) -> str:
        """How far training was last, such as "120/2340"; "" before its first step."""
        return f"{self.progress.step}/{self.progress.steps}" if self.progress else ""

    @property
    def step_seconds(self) -> float | None:
        """What a step takes in the running attempt, by the clock of the log; None: it is not known yet."""
        if self._mark is None or self.progress is None or self.progress.step <= self._mark[1]:
            return None
        return (self._progressed - self._mark[0]) / (self.progress.step - self._mark[1])

    def take(self, time: float, state: StateLine | None, progress: Progress | None) -> None:
        """A state or progress line of the chief's log, and its Unix time."""
        self._heard = time if self._heard is None else self._heard
        self._oldest = self._oldest or (state.attempt if state else 0) or (progress.attempt if progress else 0)
        if state is not None:
            self.attempt = max(self.attempt, state.attempt)
            if state.state == "training":
                self._begin(time)
            elif self._training_since is not None:
                self._end(time)
        if progress is not None:
            self._begin(time)
            before = self.progress
            if before is None or before.attempt != progress.attempt:
                self._mark = (time, progress.step)
            self._progressed = time
            # Steps before a log that does not begin with the first attempt were made before it.
            steps = progress.step - before.step if before else progress.step if progress.attempt == 1 else 0
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
        # As long as nobody trains, all wait for those that wait for a node or an image.
        idle = {pod.index for pod in first} - {pod.index for pod in seen.pods if pod.started is not None}
        if self._first is None and idle:
            started = end
        if not first or (self._first is None and idle - {p.index for p in seen.pods if p.scheduled is not None}):
            scheduled = end
        started = max(scheduled, started)
        training, lost = self._trained_and_lost(end, started)
        if self._oldest > 1 and self._heard is not None:  # The pod that told of the first attempts is gone.
            before = max(0.0, self._heard - created)
            lost = max(0.0, end - created - before - training)
            return Spent(queued=0.0, starting=0.0, meeting=0.0, training=training, lost=lost, unknown=before)
        meeting = max(0.0, limit - started)
        # Agents speak as soon as they run: a chief that ran and left no word has lost it.
        silent = self._heard is None and bool(first) and bool(seen.job.ended)
        return Spent(
            queued=scheduled - created,
            starting=started - scheduled,
            meeting=0.0 if silent else meeting,
            training=training,
            lost=lost,
            unknown=meeting if silent else 0.0,
        )

    def _trained_and_lost(self, end: float, started: float) -> tuple[float, float]:
        """The seconds of steps that counted, and the others after the first step."""
        if self._first is None:
            return 0.0, 0.0
        trained = self._trained
        if self._training_since is not None:
            trained += max(0.0, (self._last or end) - self._training_since)
        rate = self._made / trained if trained else 0.0
        twice = min(trained, self._repeated / rate) if rate else 0.0
        return trained - twice, max(0.0, end - max(self._first, started) - trained) + twice

    def _begin(self, time: float) -> None:
        if self._training_since is None:
            self._training_since = time
            self._first = time if self._first is None else self._first

    def _end(self, time: float) -> None:
        if self._training_since is not None:
            self._trained += max(0.0, time - self._training_since)
            self._training_since = None
