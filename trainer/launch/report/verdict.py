"""How a run ended and why: the first cause, from everything that was seen. Pure."""

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.core.exit_codes import ExitCode
from trainer.launch.cluster.objects import Pod, Seen
from trainer.launch.codes import LaunchCode
from trainer.launch.report.first_cause import Blame, alike, by_itself, first_cause, lost, told
from trainer.launch.report.pending import never_ran, none_ran, reasons, unstarted
from trainer.launch.report.snapshot import described, indexes
from trainer.launch.report.time_spent import Spent

_LINES = 8  # Of each kind.
_UNTELLING = {"BackOff", "Unhealthy"}  # Events that only follow from what is said already.


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
    goes_on: bool = False  # The run, though the watching has ended.

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
    # Where the chief's pod is gone, so is what it told of its steps.
    told_of = 0 in seen.current() or none_ran(seen)
    where = f" at step {step}" if step else " before its first step" if told_of else ""
    match end:
        case End.INTERRUPTED:
            headline = f"{name} goes on{where}; only the watching has ended"
            return Verdict(code=LaunchCode.INTERRUPTED, headline=headline, goes_on=True)
        case End.TIMEOUT:
            headline = f"timed out: {name} has not ended within --timeout={limit:g} s, it goes on{where}"
            lines = (*described(reasons(seen)), *_time(spent))
            return Verdict(code=LaunchCode.TIMEOUT, headline=headline, lines=lines, goes_on=True)
        case End.PENDING:
            idle = f"no worker of {name} ran" if none_ran(seen) else f"{indexes(unstarted(seen))} of {name} did not run"
            headline = f"never started: {idle} within --pending_timeout={limit:g} s"
            waits = described(reasons(seen)) or ["Kubernetes gives no reason"]
            return Verdict(code=LaunchCode.NOT_STARTED, headline=headline, lines=tuple(waits))
        case End.DELETED if seen.done is None:
            headline = f"deleted: somebody removed the job {seen.job.name}{where}"
            return Verdict(code=LaunchCode.FAILED, headline=headline, lines=(*_replaced(seen), *_time(spent)))
    if end is End.JOB and seen.job.ended != "complete":
        return _failed(seen, spent, where)
    return _succeeded(seen, spent)


def unheard(job: str, end: End, limit: float) -> Verdict:
    """The verdict on a run of which the cluster has said nothing before the watching ended."""
    code, why = LaunchCode.INTERRUPTED, "interrupted"
    if end is End.TIMEOUT:
        code, why = LaunchCode.TIMEOUT, f"timed out after --timeout={limit:g} s"
    headline = f"{why}: the cluster has said nothing of the job {job} yet"
    return Verdict(code=code, headline=headline, goes_on=True)


def _succeeded(seen: Seen, spent: Spent) -> Verdict:
    chiefs = [pod.facts for pod in seen.pods if pod.index == 0 and pod.exit_code == 0]
    result = next((facts for facts in chiefs if "val_accuracy" in facts), {})  # Else it is no result.
    headline = f"{reached(seen.job.release or seen.job.name, result)} in {duration(spent.total)}"
    gone = "left none in its termination message" if 0 in seen.current() else "is gone"
    lines = [figures(result) if result else f"its result could not be read: the chief's pod {gone}"]
    return Verdict(
        code=LaunchCode.DONE,
        headline=headline,
        lines=(*lines, *_replaced(seen), *_kept(seen), *_time(spent)),
        facts={"result": dict(result)},
    )


def reached(name: str, result: Mapping[str, Any]) -> str:
    """What a run that succeeded has to show."""
    accuracy = result.get("val_accuracy")
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
    idle = none_ran(seen)
    waited = described(never_ran(seen)) if idle else []
    if job.reason == "DeadlineExceeded":
        headline = f"timed out: {name} was ended{where} after the chart's job.activeDeadlineSeconds"
        return Verdict(code=LaunchCode.TIMEOUT, headline=headline, lines=(*waited, *_time(spent)))
    code, word = (LaunchCode.NOT_STARTED, "never started") if idle else (LaunchCode.TRAINING, "failed")
    said = f"Kubernetes: {job.reason}: {job.message}"
    blame = first_cause(seen)
    if blame is None:
        why = "failed before any worker ran" if idle else "failed, and the pods that did are no longer known"
        known = (said, *waited, *_kept(seen), *_time(spent))
        return Verdict(code=code, headline=f"{word}: {name} {why}", lines=known)
    pod, reason = blame.pod, told(blame.pod)
    step = f", at step {pod.facts['step']}" if pod.facts.get("step") else ""
    errors = [str(line) for line in pod.facts.get("errors") or ()][-_LINES:]
    lines = [f"| {line}" for line in errors]
    if not blame.own:
        headline = f"{word}: {reason}, as worker {pod.index}{_on(pod)} told (exit code {pod.exit_code}){step}"
        lines += _accused(seen, blame)
    else:
        headline = f"{word}: worker {pod.index}{_on(pod)} {lost(pod)}{step}"
        if reason and not (errors and reason.endswith(errors[-1])):  # Which the error lines do not say.
            lines.append(f"its agent said: {reason}")
    lines += _events(seen, pod)
    if len(blame.streak) > 1:
        lines.append(f"worker {pod.index} failed {len(blame.streak)} times: the job gave up ({job.reason})")
    else:
        lines.append(said)
    accused = seen.current().get(blame.workers[0])
    facts = {
        "worker": blame.workers[0],
        "node": accused.node if accused and not blame.own else pod.node,
        "exit_code": pod.exit_code if blame.own else None,
        "reason": reason,
        "errors": errors,
    }
    return Verdict(
        code=code,
        headline=headline,
        lines=(*lines, *_others(seen, blame), *_kept(seen), *_time(spent)),
        facts={"first_cause": facts},
    )


def _accused(seen: Seen, blame: Blame) -> list[str]:
    """What is known of workers whom only others name."""
    lines = described(reason for reason in never_ran(seen) if set(reason.workers) & set(blame.workers))
    current = seen.current()
    for pod in [current[worker] for worker in blame.workers if worker in current]:
        if pod.started is not None:
            before = pod.lost and pod.left <= blame.streak[-1].left
            lines.append(f"worker {pod.index}{_on(pod)} {lost(pod) if before else 'was running'}")
    return lines


def _others(seen: Seen, blame: Blame) -> list[str]:
    """The other pods that were lost: before the end, by themselves, or because of the first cause."""
    newest, last = {pod.uid for pod in seen.current().values()}, blame.streak[-1]
    told_of = {pod.uid for pod in blame.streak}
    replaced, left = [], []
    for pod in seen.pods:
        if pod.uid in told_of or not pod.lost or not (pod.failed or pod.started):
            continue
        if pod.uid not in newest and pod.left <= last.left and pod.exit_code != ExitCode.PEER_LOST:
            replaced.append(pod)
        elif pod.index not in (*blame.workers, last.index):
            left.append(pod)
    own = {pod.index: pod for pod in left if by_itself(pod)}
    same = [index for index, pod in own.items() if blame.own and alike(pod, last)]
    lines = _capped(f"earlier, worker {pod.index}{_on(pod)} {lost(pod)}; its pod was replaced" for pod in replaced)
    if same:
        lines.append(f"failed in the same way: {indexes(sorted(same))}")
    lines += _capped(f"worker {i}{_on(pod)} {lost(pod)}, too" for i, pod in own.items() if i not in same)
    if collateral := {pod.index for pod in left} - set(own):
        lines.append(f"collateral, ended because of it: {indexes(sorted(collateral))}")
    return lines


def _replaced(seen: Seen) -> list[str]:
    """The pods that were lost and replaced."""
    newest = {pod.uid for pod in seen.current().values()}
    gone = [pod for pod in seen.pods if pod.uid not in newest]
    return _capped(f"worker {pod.index}{_on(pod)} {lost(pod)}; its pod was replaced" for pod in gone)


def _capped(lines: Iterable[str]) -> list[str]:
    """The first of them, and how many more there are."""
    told_all = list(lines)
    more = len(told_all) - _LINES
    return [*told_all[:_LINES], f"and {more} more"] if more > 0 else told_all


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
    events = [w for w in seen.warnings if w.uid == pod.uid and w.reason not in _UNTELLING]
    return [f"event {w.reason}: {w.message}" for w in events][-3:]


def _time(spent: Spent) -> tuple[str, ...]:
    parts = {
        "queued": spent.queued,
        "starting": spent.starting,
        "rendezvous": spent.meeting,
        "training": spent.training,
        "lost to failures": spent.lost,
    }
    told_all = [f"{word} {duration(value)}" for word, value in parts.items() if value >= 0.5]
    if spent.unknown < 0.5:
        return (f"time: {', '.join(told_all) or duration(spent.total)}; goodput {spent.goodput:.0%}",)
    told_all.insert(0, f"{duration(spent.unknown)} not known (the log of the chief's pod of then is gone)")
    return (f"time: {', '.join(told_all)}" + (f"; goodput {spent.goodput:.0%} of the rest" if told_all[1:] else ""),)


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
