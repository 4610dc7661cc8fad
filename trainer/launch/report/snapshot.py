"""What a run looks like at one moment: a row for each worker, counts, how far training is. Pure."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from trainer.core.causes import Cause
from trainer.core.log_lines import STATES, Progress, StateLine
from trainer.launch.cluster.objects import Pod, Seen
from trainer.launch.report.pending import Reason, reasons
from trainer.launch.report.worker_activity import WorkerActivity

_MOST_REASONS = 4  # Why workers wait, a line each.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One worker."""

    worker: int
    phase: str  # A word: "pending", "running" or what its agent does, "failed".
    reason: str  # Why it is in it, in a word or two: "unschedulable", "exit 64".
    node: str
    step: int | None  # None: not known.
    restarts: int | None  # None: not known.
    pods: int  # How many it has had.

    @property
    def state(self) -> str:
        """Its word in a count of all workers: what keeps it from running, or that it runs."""
        if self.phase in STATES:
            return "running"
        return self.reason or self.phase


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All of a run at one moment."""

    rows: tuple[Row, ...]
    pending: tuple[Reason, ...]
    attempt: int  # 0 before the first.
    progress: Progress | None
    step_seconds: float | None  # Seconds that a step takes; None: not known.

    @classmethod
    def of(
        cls,
        seen: Seen,
        attempt: int,
        progress: Progress | None,
        activity: WorkerActivity,
        step_seconds: float | None = None,
    ) -> "Snapshot":
        """The snapshot of what was seen."""
        pending = tuple(reasons(seen))
        words = {worker: reason.word for reason in pending for worker in reason.workers}
        pods: dict[int, list[Pod]] = collections.defaultdict(list)
        for pod in seen.pods:
            pods[pod.index].append(pod)
        rows = tuple(_row(worker, pods[worker], words.get(worker, ""), activity) for worker in range(seen.job.workers))
        return cls(rows=rows, pending=pending, attempt=attempt, progress=progress, step_seconds=step_seconds)

    def counts(self) -> dict[str, int]:
        """How many workers are in each state, the most common first."""
        return dict(collections.Counter(row.state for row in self.rows).most_common())

    def odd(self) -> list[Row]:
        """The workers that are not as most are, or whose pod was replaced."""
        most = next(iter(self.counts()), "")
        return [row for row in self.rows if row.state != most or row.pods > 1]

    def shown(self, space: int) -> Sequence[Row]:
        """The workers that get a line of their own where there is space for so many: all, or else the odd ones out."""
        return self.rows if len(self.rows) <= space else self.odd()[:space]

    def summary(self) -> str:
        """The counts as text: 3 running, 1 unschedulable."""
        return ", ".join(f"{count} {state}" for state, count in self.counts().items())


def bar(share: float, width: int) -> str:
    """A bar that is full at 1."""
    full = round(max(0.0, min(1.0, share)) * width)
    return "━" * full + "╌" * (width - full)


def eta(progress: Progress, step_seconds: float | None) -> str:
    """The time that is left, from the seconds that a step takes; "" if that is not known."""
    if step_seconds is None:
        return ""
    minutes, seconds = divmod(round((progress.steps - progress.step) * step_seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"ETA {hours}:{minutes:02d}:{seconds:02d}" if hours else f"ETA {minutes}:{seconds:02d}"


def name_workers(workers: Sequence[int]) -> str:
    """Workers as text: worker 3, or workers 0-2, 5."""
    parts, begin = [], 0
    for at in range(1, len(workers) + 1):
        if at == len(workers) or workers[at] != workers[at - 1] + 1:
            first, last = workers[begin], workers[at - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            begin = at
    return ("worker " if len(workers) == 1 else "workers ") + ", ".join(parts)


def reason_lines(pending: Iterable[Reason]) -> list[str]:
    """Why workers wait, a line for each reason. There can be many, as when each names its own pod: then the first."""
    reasons_ = list(pending)
    more = reasons_[_MOST_REASONS:]
    lines = [f"{name_workers(reason.workers)}: {reason.text}" for reason in reasons_[:_MOST_REASONS]]
    if more:
        lines.append(f"and {len(more)} more reasons, of {sum(len(reason.workers) for reason in more)} worker(s)")
    return lines


def _row(worker: int, pods: list[Pod], word: str, activity: WorkerActivity) -> Row:
    if not pods:
        return Row(worker=worker, phase="no pod", reason=word, node="", step=None, restarts=0, pods=0)
    pod = pods[-1]
    phase, reason = _phase(pod, word, activity.state(pod))
    return Row(
        worker=worker,
        phase=phase,
        reason=reason,
        node=pod.node,
        step=activity.step(worker),
        restarts=activity.restarts(pods),
        pods=len(pods),
    )


def _phase(pod: Pod, word: str, state: StateLine | None) -> tuple[str, str]:
    if pod.gone:
        return "lost", word
    if pod.failed:
        return "failed", word or (f"exit {pod.exit_code}" if pod.exit_code is not None else pod.reason)
    if pod.phase == "Succeeded" or pod.exit_code == 0:
        return "done", ""
    if pod.deleting:
        return "leaving", ""
    if pod.started is None:
        return "pending", word
    if state is None:
        return "running", ""
    return state.state, f"after {state.last.replace('_', ' ')}" if state.last != Cause.NEW else ""
