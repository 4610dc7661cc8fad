"""What a person, or a program, is told at the end of a run, and the lines that all verdicts share."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.core.result_figures import figure, metrics, sound, speed
from trainer.core.run_dir import REPORT
from trainer.core.safe_text import one_line, redacted
from trainer.launch.cluster.objects import Job, Pod, Seen
from trainer.launch.codes import LaunchCode
from trainer.launch.report.end_of_worker import EndOfWorker
from trainer.launch.report.time_spent import TimeSpent

MOST_LINES = 8  # The most of each kind.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a run ended."""

    code: LaunchCode
    headline: str
    lines: tuple[str, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # For programs.
    goes_on: bool = False  # Only the watching has ended.

    @property
    def text(self) -> str:
        """All of it, as one paragraph."""
        return "\n".join([self.headline, *(f"  {line}" for line in self.lines)])


def success_headline(run: str, result: Mapping[str, Any], seconds: float) -> str:
    """What a run that succeeded has reached, and how long it took."""
    measured = metrics(result)
    best = next((name for name in ("val_accuracy", "val_loss", "accuracy", "loss") if name in measured), None)
    reached = ""
    if best is not None:
        reached = f" reached {best.replace('val_', 'validation ')} {measured[best]:.4f}"
    return f"succeeded: {run}{reached} in {duration(seconds)}"


def result_line(result: Mapping[str, Any]) -> str:
    """How large a run was, and how fast."""
    trained = f"{figure(result, 'epochs'):.0f} epoch(s), {figure(result, 'steps'):.0f} steps, "
    return (
        f"{figure(result, 'workers'):.0f} worker(s), {trained if 'epochs' in result else ''}"
        f"{speed(result):,.0f} examples/s, {figure(result, 'restarts'):.0f} restart(s)"
    )


def ending_lines(result: Mapping[str, Any]) -> list[str]:
    """Why a run ended before its last epoch, if it did; which epoch was its best, if that was watched; its outputs."""
    said = sound(result)  # It may come from a bucket: whatever it holds, what is shown has the form of ours.
    parts = (said.get(name) for name in ("end", "best", "outputs"))
    end, best, outputs = (part if isinstance(part, dict) else {} for part in parts)
    lines = []
    if (by := end.get("by")) in ("early_stopping", "on_epoch_end"):
        why = f": {one_line(end['why'], 300)}" if isinstance(end.get("why"), str) else ""
        lines.append(f"{by} ended it after epoch {figure(result, 'epochs'):.0f}{why}")
    if isinstance(best.get("metric"), str) and isinstance(best.get("value"), int | float):
        lines.append(
            f"best {one_line(best['metric'], 40)} {best['value']:.6g} after epoch {figure(best, 'epoch'):.0f}; "
            f"the model is that of epoch {figure(best, 'model_epoch'):.0f}"
        )
    if isinstance(outputs.get("file"), str):
        name = one_line(outputs["file"].rpartition("/")[2], 100)  # Its folder is a pod's own.
        lines.append(f"{name} has the outputs for {figure(outputs, 'examples'):,.0f} examples")
    return lines


def worker_of(pod: Pod) -> str:
    """A pod's worker and its node: worker 1 on node2."""
    return f"worker {pod.index}" + (f" on {pod.node}" if pod.node else "")


def replaced_lines(seen: Seen) -> list[str]:
    """The pods that were lost and replaced."""
    newest = {pod.uid for pod in seen.current().values()}
    replaced = [pod for pod in seen.pods if pod.uid not in newest]
    return capped(f"{worker_of(pod)} {EndOfWorker.of_pod(pod).text}; its pod was replaced" for pod in replaced)


def capped(lines: Iterable[str]) -> list[str]:
    """The first lines, and how many more there are."""
    all_lines = list(lines)
    more = len(all_lines) - MOST_LINES
    return [*all_lines[:MOST_LINES], f"and {more} more"] if more > 0 else all_lines


def kept_facts(job: Job) -> dict[str, str]:
    """Which Job a verdict is about, and where its run is kept, if it is: for programs."""
    kept = {"run": job.run, "output": redacted(job.output)} if job.output else {}
    return {"job": job.name, **kept}


def kept_lines(job: Job, result: Mapping[str, Any] | None = None) -> list[str]:
    """Where the run was kept, if it was, and its page if its result names one."""
    if not job.output:
        return []
    board = f" (python -m trainer.board --logdir {job.output})" if "://" in job.output else ""
    address = f"{job.output.rstrip('/')}/{job.run}"
    return [f"kept in {address}{board}", *report_lines(address, result or {})]


def report_lines(address: str, result: Mapping[str, Any]) -> list[str]:
    """Where the run's page is, if it has one, below its address."""
    return [f"on one page: {address}/{REPORT}"] if result.get("report") == REPORT else []


def time_line(spent: TimeSpent) -> str:
    """Where the time went."""
    parts = {
        "queued": spent.queued,
        "starting": spent.starting,
        "rendezvous": spent.rendezvous,
        "training": spent.training,
        "lost to failures": spent.lost,
    }
    shares = [f"{what} {duration(seconds)}" for what, seconds in parts.items() if seconds >= 0.5]
    if spent.unknown < 0.5:
        return f"time: {', '.join(shares) or duration(spent.total)}; goodput {spent.goodput:.0%}"
    unknown = f"unknown {duration(spent.unknown)} (the chief's log of that time is gone)"
    return f"time: {', '.join([unknown, *shares])}" + (f"; goodput {spent.goodput:.0%} of the rest" if shares else "")


def duration(seconds: float) -> str:
    """Such as 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
