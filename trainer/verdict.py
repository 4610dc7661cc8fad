"""How a run ended and why: the first cause, from everything that was seen. Pure."""

import dataclasses
import enum
import re
from collections.abc import Mapping
from typing import Any

from trainer.exit_codes import FINAL, ExitCode, meaning
from trainer.launch_codes import LaunchCode
from trainer.observed import Pod, Seen
from trainer.pending import none_ran, reasons
from trainer.picture import indexes
from trainer.timeline import Spent

# `rendezvous.Ended.described` begins so, and every agent passes on what ended the run.
_CULPRIT = re.compile(r"(?:the agent of )?worker (\d+)\b")
_ERROR_LINES = 8
_UNTELLING = {"BackOff", "Unhealthy"}  # Events that only follow from what is said already.
_DISRUPTIONS = {
    "PreemptionByScheduler": "preempted by a pod of higher priority",
    "EvictionByEvictionAPI": "evicted (a drain, or another request to evict it)",
    "DeletionByTaintManager": "taken from its node, which was lost or tainted",
    "DeletionByPodGC": "removed because its node is gone",
    "TerminationByKubelet": "ended by its node",
}


class End(enum.Enum):
    """What ended the watching."""

    JOB = enum.auto()  # The Job is complete or has failed.
    DELETED = enum.auto()  # Somebody deleted the Job.
    TIMEOUT = enum.auto()
    PENDING = enum.auto()  # --pending_timeout.
    INTERRUPTED = enum.auto()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a person, or a program, is told at the end."""

    code: LaunchCode
    headline: str
    lines: tuple[str, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def text(self) -> str:
        """All of it, as one paragraph."""
        return "\n".join([self.headline, *(f"  {line}" for line in self.lines)])


def judge(seen: Seen, end: End, spent: Spent, *, limit: float = 0.0, step: str = "") -> Verdict:
    """Says how it ended.

    Args:
      seen: the Job, its pods, the warnings.
      end: what ended the watching.
      spent: where the time went.
      limit: seconds, of --timeout or --pending_timeout.
      step: how far training was, such as "120/2340"; "" if it made no step.
    """
    name = seen.job.release or seen.job.name
    where = f"at step {step}" if step else "before its first step"
    match end:
        case End.INTERRUPTED:
            return Verdict(code=LaunchCode.INTERRUPTED, headline=f"{name} goes on {where}; only the watching has ended")
        case End.TIMEOUT:
            headline = f"timed out: {name} has not ended within --timeout={limit:g} s, it goes on {where}"
            return Verdict(code=LaunchCode.TIMEOUT, headline=headline, lines=_time(spent))
        case End.PENDING:
            headline = f"never started: no worker of {name} ran within --pending_timeout={limit:g} s"
            return Verdict(code=LaunchCode.NOT_STARTED, headline=headline, lines=_pending(seen))
        case End.DELETED:
            headline = f"deleted: somebody removed the job {seen.job.name} {where}"
            return Verdict(code=LaunchCode.FAILED, headline=headline, lines=(*_replaced(seen), *_time(spent)))
    if seen.job.ended == "complete":
        return _succeeded(seen, spent)
    return _failed(seen, spent, where)


def first_cause(seen: Seen) -> Pod | None:
    """The pod that failed first, as far as its own and the others' agents say; None: no pod has failed."""
    failed = sorted((p for p in seen.pods if p.failed), key=lambda p: (p.finished or p.created, p.index))
    final = [pod for pod in failed if pod.exit_code in FINAL]
    counted = [p for p in failed if p.exit_code != ExitCode.TERMINATED and p.disruption is None]
    # Who merely lost a peer, or was told to go, follows somebody else.
    own = [pod for pod in counted if pod.exit_code != ExitCode.PEER_LOST]
    for group in (final, own, counted, failed):
        if group:
            accused = [pod for pod in group if pod.index == _accuses(group[0])]
            return (accused or group)[0]
    return None


def lost(pod: Pod) -> str:
    """Why a pod ended, in words that follow "worker 1 on node2"."""
    if pod.disruption:
        word, sentence = pod.disruption
        return f"was {_DISRUPTIONS.get(word, word)}" + (f": {sentence}" if sentence else "")
    if pod.reason == "Evicted":
        return f"was evicted by its node: {pod.detail}"
    if pod.reason == "OOMKilled":
        return f"ran out of memory (OOMKilled, exit code {pod.exit_code}): raise worker.resources.limits.memory"
    if pod.exit_code is not None:
        word = meaning(pod.exit_code)
        said = str(pod.facts.get("signal") or "")
        if said and said not in word:
            word += f", by {said}"
        if said == "SIGKILL":
            word += "; by the kernel for want of memory, if nobody else did it"
        return f"ended with exit code {pod.exit_code} ({word})"
    if pod.gone or pod.deleting:
        return "was deleted"
    return f"failed: {pod.reason} {pod.detail}".rstrip()


def _succeeded(seen: Seen, spent: Spent) -> Verdict:
    result = next((p.facts for p in seen.pods if p.index == 0 and p.exit_code == 0 and p.facts), {})
    headline = f"{reached(seen.job.release or seen.job.name, result)} in {duration(spent.total)}"
    lines = [figures(result) if result else "its result could not be read: the chief's pod is gone"]
    return Verdict(
        code=LaunchCode.DONE,
        headline=headline,
        lines=(*lines, *_replaced(seen), *_kept(seen), *_time(spent)),
        facts={"result": dict(result)},
    )


def reached(name: str, result: Mapping[str, Any]) -> str:
    """What a run that succeeded has to show."""
    accuracy = result.get("val_accuracy", result.get("accuracy"))
    return f"succeeded: {name}" + ("" if accuracy is None else f" reached validation accuracy {accuracy:.4f}")


def figures(result: Mapping[str, Any]) -> str:
    """How large it was, and how fast."""
    return (
        f"{result.get('workers')} worker(s), {result.get('epochs')} epoch(s), {result.get('steps')} steps, "
        f"{result.get('images_per_second', 0):,.0f} images/s, {int(result.get('restarts', 0))} restart(s)"
    )


def _failed(seen: Seen, spent: Spent, where: str) -> Verdict:
    job = seen.job
    name = job.release or job.name
    if job.reason == "DeadlineExceeded":
        headline = f"timed out: {name} was ended {where} after the chart's job.activeDeadlineSeconds"
        return Verdict(code=LaunchCode.TIMEOUT, headline=headline, lines=_time(spent))
    culprit = first_cause(seen)
    if culprit is None and none_ran(seen):
        headline = f"never started: {name} failed before any worker ran ({job.reason}: {job.message})"
        return Verdict(code=LaunchCode.NOT_STARTED, headline=headline, lines=_pending(seen))
    if culprit is None:
        headline = f"failed: {name} ({job.reason}: {job.message})"
        return Verdict(code=LaunchCode.TRAINING, headline=headline, lines=_time(spent))
    step = culprit.facts.get("step")
    headline = f"failed: worker {culprit.index}{_on(culprit)} {lost(culprit)}" + (f", at step {step}" if step else "")
    errors = [str(line) for line in culprit.facts.get("errors") or ()][-_ERROR_LINES:]
    lines = [f"| {line}" for line in errors]
    lines += _events(seen, culprit)
    again = [pod for pod in seen.of(culprit.index) if pod.failed and pod.uid != culprit.uid]
    if again:
        lines.append(f"worker {culprit.index} failed {len(again) + 1} times: the job gave up ({job.reason})")
    else:
        lines.append(f"Kubernetes: {job.reason}: {job.message}")
    others = [pod for pod in seen.pods if pod.failed and pod.index != culprit.index]
    alike = {pod.index for pod in others if pod.exit_code == culprit.exit_code and _accuses(pod) == pod.index}
    if alike:
        lines.append(f"failed in the same way: {indexes(sorted(alike))}")
    if collateral := {pod.index for pod in others} - alike:
        lines.append(f"collateral, ended because of it: {indexes(sorted(collateral))}")
    facts = {"worker": culprit.index, "node": culprit.node, "exit_code": culprit.exit_code, "errors": errors}
    return Verdict(
        code=LaunchCode.TRAINING,
        headline=headline,
        lines=(*lines, *_kept(seen), *_time(spent)),
        facts={"first_cause": facts},
    )


def _pending(seen: Seen) -> tuple[str, ...]:
    said = [f"{indexes(r.workers)}: {r.text}" for r in reasons(seen)]
    return tuple(said) or ("Kubernetes gives no reason",)


def _replaced(seen: Seen) -> list[str]:
    """The pods that were lost and replaced, a line for each kind of loss of a worker."""
    newest = {pod.uid for pod in seen.current().values()}
    gone = [pod for pod in seen.pods if pod.uid not in newest]
    lines = [f"worker {pod.index}{_on(pod)} {lost(pod)}; its pod was replaced" for pod in gone]
    return lines if len(lines) <= _ERROR_LINES else [*lines[:_ERROR_LINES], f"and {len(lines) - _ERROR_LINES} more"]


def _kept(seen: Seen) -> list[str]:
    """Where to look, if the run was kept."""
    output = seen.job.output
    if not output:
        return []
    return [
        f"kept in {output.rstrip('/')}/{seen.job.run}"
        + (f" (python -m trainer.board --logdir {output})" if "://" in output else "")
    ]


def _events(seen: Seen, pod: Pod) -> list[str]:
    told = [w for w in seen.warnings if w.uid == pod.uid and w.reason not in _UNTELLING]
    return [f"event {w.reason}: {w.message}" for w in told][-3:]


def _time(spent: Spent) -> tuple[str, ...]:
    parts = {
        "queued": spent.queued,
        "starting": spent.starting,
        "rendezvous": spent.meeting,
        "training": spent.training,
        "lost to failures": spent.lost,
    }
    said = ", ".join(f"{word} {duration(value)}" for word, value in parts.items() if value >= 0.5)
    return (f"time: {said or duration(spent.total)}; goodput {spent.goodput:.0%}",)


def _accuses(pod: Pod) -> int | None:
    """The worker that ended the run, as the pod's agent heard it."""
    named = _CULPRIT.match(str(pod.facts.get("reason", "")))
    return int(named[1]) if named else None


def _on(pod: Pod) -> str:
    return f" on {pod.node}" if pod.node else ""


def duration(seconds: float) -> str:
    """Such as 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
