"""What a run looks like at one moment: a row a worker, counts, how far training is. Pure."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from trainer.observed import Pod, Seen
from trainer.pending import Reason, reasons
from trainer.progress import Progress


@dataclasses.dataclass(frozen=True)
class Row:
    """One worker."""

    worker: int
    state: str  # A word or two: "running", "unschedulable", "exit 64".
    node: str
    pods: int  # How many it has had.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """All of a run at one moment."""

    release: str
    rows: tuple[Row, ...]
    pending: tuple[Reason, ...]
    attempt: int  # 0 before the first.
    progress: Progress | None

    @classmethod
    def of(cls, seen: Seen, attempt: int, progress: Progress | None) -> "Picture":
        """The picture of what was seen."""
        pending = tuple(reasons(seen))
        words = {worker: reason.word for reason in pending for worker in reason.workers}
        current = seen.current()
        had = collections.Counter(pod.index for pod in seen.pods)
        rows = tuple(
            Row(worker, _state(current.get(worker), words.get(worker, "new")), _node(current.get(worker)), had[worker])
            for worker in range(seen.job.workers)
        )
        return cls(release=seen.job.release, rows=rows, pending=pending, attempt=attempt, progress=progress)

    def counts(self) -> dict[str, int]:
        """How many workers are in each state, the most common first."""
        return dict(collections.Counter(row.state for row in self.rows).most_common())

    def odd(self) -> list[Row]:
        """The workers that are not as most are, or whose pod was replaced."""
        most = next(iter(self.counts()), "")
        return [row for row in self.rows if row.state != most or row.pods > 1]

    def summary(self) -> str:
        """The counts as text: 3 running, 1 unschedulable."""
        return ", ".join(f"{count} {state}" for state, count in self.counts().items())


def bar(share: float, width: int) -> str:
    """A bar that is full at 1."""
    full = round(max(0.0, min(1.0, share)) * width)
    return "━" * full + "╌" * (width - full)


def eta(progress: Progress, batch_seconds: float | None) -> str:
    """The time that is left, from the seconds that a step takes."""
    if batch_seconds is None:
        return ""
    left = round((progress.steps - progress.step) * batch_seconds)
    return f"ETA {left // 60}:{left % 60:02d}"


def indexes(workers: Sequence[int]) -> str:
    """Workers as text: worker 3, or workers 0-2, 5."""
    parts, begin = [], 0
    for at in range(1, len(workers) + 1):
        if at == len(workers) or workers[at] != workers[at - 1] + 1:
            first, last = workers[begin], workers[at - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            begin = at
    return ("worker " if len(workers) == 1 else "workers ") + ", ".join(parts)


def described(found: Iterable[Reason]) -> list[str]:
    """Why workers wait, a line a reason."""
    return [f"{indexes(reason.workers)}: {reason.text}" for reason in found]


def _state(pod: Pod | None, word: str) -> str:
    if pod is None:
        return word if word != "new" else "no pod"
    if pod.gone:
        return "lost"
    if pod.failed:
        return f"exit {pod.exit_code}" if pod.exit_code is not None else pod.reason or "failed"
    if pod.phase == "Succeeded" or pod.exit_code == 0:
        return "done"
    if pod.deleting:
        return "leaving"
    return "running" if pod.started is not None else word


def _node(pod: Pod | None) -> str:
    return pod.node if pod else ""
