"""Where the time of a run went, from the chief's log. Pure: times come with the lines."""

import dataclasses

from trainer.core.log_lines import Progress, StateLine
from trainer.launch.cluster.objects import Seen


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeSpent:
    """Seconds of a run."""

    queued: float  # Until all pods had a node.
    starting: float  # Until all containers ran: pulling, mostly.
    rendezvous: float  # Until the first step: rendezvous, TensorFlow's start.
    training: float  # Steps that counted.
    lost: float  # After the first step: restarts, and steps that were made twice.
    unknown: float = 0.0  # Before the first line that is left of the chief's logs, if earlier ones are gone.

    @property
    def total(self) -> float:
        """All seconds."""
        return self.unknown + self.known

    @property
    def known(self) -> float:
        """The seconds of which it is known what they were for."""
        return self.queued + self.starting + self.rendezvous + self.training + self.lost

    @property
    def goodput(self) -> float:
        """The share of the known time that went into steps that counted."""
        return self.training / self.known if self.known else 0.0


class Timeline:
    """What the lines of the chief's logs have told so far."""

    def __init__(self) -> None:
        self.attempt = 0
        self.progress: Progress | None = None
        self._training_since: float | None = None
        self._trained = 0.0
        self._repeated_steps = 0
        self._steps_made = 0  # Also the repeated ones.
        self._training_began: float | None = None  # For the first time.
        self._first_line: float | None = None
        self._last_line: float | None = None
        self._first_attempt = 0  # The first attempt of which a line tells.
        self._mark: tuple[float, int] | None = None  # The time and the step of the running attempt's first progress.
        self._progressed = 0.0  # The time of the last progress.

    @property
    def waits(self) -> bool:
        """Whether the chief's agent has spoken and no attempt has begun yet."""
        return self._first_line is not None and self.attempt == 0

    @property
    def step(self) -> str:
        """How far training was last, such as "120/2340"; "" before its first step."""
        return f"{self.progress.step}/{self.progress.steps}" if self.progress else ""

    @property
    def step_seconds(self) -> float | None:
        """How long a step takes in the running attempt, by the clock of the log; None: not known yet."""
        if self._mark is None or self.progress is None or self.progress.step <= self._mark[1]:
            return None
        return (self._progressed - self._mark[0]) / (self.progress.step - self._mark[1])

    def take(self, time: float, state: StateLine | None, progress: Progress | None) -> None:
        """Takes in a state or progress line of the chief's log, and its Unix time."""
        self._first_line = time if self._first_line is None else self._first_line
        if not self._first_attempt:
            self._first_attempt = (state.attempt if state else 0) or (progress.attempt if progress else 0)
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
                self._repeated_steps -= steps
            else:
                self._steps_made += steps
            self.attempt, self.progress = max(self.attempt, progress.attempt), progress
        self._last_line = time

    def pod_lost(self, time: float) -> None:
        """Notes that the chief's pod has ended, which its log need not say."""
        if self._training_since is not None:
            self._end(max(time, self._training_since))

    def spent(self, seen: Seen, end: float) -> TimeSpent:
        """Where the time from the Job's creation to `end` went."""
        created = seen.job.created
        scheduled, started = self._all_scheduled_and_started(seen, end)
        training, lost = self._trained_and_lost(end, started)
        if self._first_attempt > 1 and self._first_line is not None:  # The log of the first attempts is gone.
            before = max(0.0, self._first_line - created)
            lost = max(0.0, end - created - before - training)
            return TimeSpent(queued=0.0, starting=0.0, rendezvous=0.0, training=training, lost=lost, unknown=before)
        rendezvous = max(0.0, (end if self._training_began is None else self._training_began) - started)
        # An agent writes as soon as it runs: if the run has ended and the chief's log has no line, the log is gone.
        log_gone = self._first_line is None and bool(seen.pods) and bool(seen.job.ended)
        return TimeSpent(
            queued=scheduled - created,
            starting=started - scheduled,
            rendezvous=0.0 if log_gone else rendezvous,
            training=training,
            lost=lost,
            unknown=rendezvous if log_gone else 0.0,
        )

    def _all_scheduled_and_started(self, seen: Seen, end: float) -> tuple[float, float]:
        """When all pods had a node, and when all their containers ran; `end`, if that has not happened."""
        first_pods = {pod.index: pod for pod in reversed(seen.pods)}.values()
        # A first pod that came after the first step replaced one that is no longer known.
        limit = end if self._training_began is None else self._training_began
        scheduled = max([seen.job.created, *(p.scheduled for p in first_pods if p.scheduled and p.scheduled <= limit)])
        started = max([scheduled, *(p.started for p in first_pods if p.started and p.started <= limit)])
        if not first_pods:
            return end, max(end, started)
        if self._training_began is None:
            # As long as nobody trains, all wait for those that wait for a node or an image.
            not_started = {pod.index for pod in seen.pods} - {pod.index for pod in seen.pods if pod.started is not None}
            if not_started:
                started = end
            if not_started - {pod.index for pod in seen.pods if pod.scheduled is not None}:
                scheduled = end
        return scheduled, max(scheduled, started)

    def _trained_and_lost(self, end: float, started: float) -> tuple[float, float]:
        """The seconds of steps that counted, and the others after the first step."""
        if self._training_began is None:
            return 0.0, 0.0
        trained = self._trained
        if self._training_since is not None:
            trained += max(0.0, (self._last_line or end) - self._training_since)
        rate = self._steps_made / trained if trained else 0.0
        twice = min(trained, self._repeated_steps / rate) if rate else 0.0
        return trained - twice, max(0.0, end - max(self._training_began, started) - trained) + twice

    def _begin(self, time: float) -> None:
        if self._training_since is None:
            self._training_since = time
            self._training_began = time if self._training_began is None else self._training_began

    def _end(self, time: float) -> None:
        if self._training_since is not None:
            self._trained += max(0.0, time - self._training_since)
            self._training_since = None
