"""The verdict on a run that failed: who, where, how, at which step; then what adds to that, each thing once. Pure."""

from trainer.core.causes import CRASHES
from trainer.launch.cluster.objects import Job, Pod, Seen
from trainer.launch.codes import LaunchCode
from trainer.launch.report.agent_message import AgentMessage
from trainer.launch.report.end_of_worker import EndOfWorker
from trainer.launch.report.first_cause import FirstCause, ended_alike, failed_by_itself, find_first_cause, lost_a_peer
from trainer.launch.report.pending import never_ran, none_ran
from trainer.launch.report.snapshot import name_workers, reason_lines
from trainer.launch.report.time_spent import TimeSpent
from trainer.launch.report.verdict import MOST_LINES, Verdict, capped, kept_lines, time_line, worker_of

_CONSEQUENCES = {"BackOff", "Unhealthy"}  # Events that only follow from what the verdict says already.
_GAVE_UP = {
    "BackoffLimitExceeded": "the job gave up (BackoffLimitExceeded)",
    "PodFailurePolicy": "the job gave up, as a retry would not help (PodFailurePolicy)",
}


def failed_verdict(seen: Seen, spent: TimeSpent, where: str) -> Verdict:
    """Says how a Job failed.

    Args:
      seen: the Job, its pods, the warnings.
      spent: where the time went.
      where: how far training was, such as " at step 120/2340"; "": not known.
    """
    job = seen.job
    name = job.release or job.name
    idle = none_ran(seen)
    waits = reason_lines(never_ran(seen)) if idle else []
    if job.reason == "DeadlineExceeded":
        headline = f"timed out: {name} was ended{where} after the chart's job.activeDeadlineSeconds"
        return Verdict(code=LaunchCode.TIMEOUT, headline=headline, lines=(*waits, time_line(spent)))
    code, word = (LaunchCode.NOT_STARTED, "never started") if idle else (LaunchCode.TRAINING, "failed")
    cause = find_first_cause(seen)
    if cause is None:
        why = "failed before any worker ran" if idle else "failed, and the pods that failed are no longer known"
        lines = [f"Kubernetes: {job.reason}: {job.message}", *waits, *kept_lines(job), time_line(spent)]
        return Verdict(code=code, headline=f"{word}: {name} {why}", lines=tuple(lines))
    own_lines = _own_lines(seen, cause) if cause.first_hand else _accused_lines(seen, cause)
    return Verdict(
        code=code,
        headline=f"{word}: {_headline(cause)}",
        lines=(*own_lines, _gave_up(job, cause), *_other_lines(seen, cause), *kept_lines(job), time_line(spent)),
        facts={"first_cause": _facts(seen, cause)},
    )


def _headline(cause: FirstCause) -> str:
    pod = cause.pod
    message = AgentMessage.of(pod)
    if cause.first_hand:
        return f"{worker_of(pod)} {EndOfWorker.of_pod(pod).headline(message.step)}"
    return f"{message.reason} (says {worker_of(pod)}, which {EndOfWorker.of_pod(pod).headline(message.step)})"


def _own_lines(seen: Seen, cause: FirstCause) -> list[str]:
    """What the worker that is to blame adds to the headline: its error lines, its agent's reason, events, restarts."""
    pod = cause.pod
    message = AgentMessage.of(pod)
    lines = [f"| {line}" for line in message.errors[-MOST_LINES:]]
    # If the kernel killed the container, its agent saw less of that than Kubernetes did.
    if message.addition and pod.reason != "OOMKilled":
        lines.append(f"its agent said: {message.addition}")
    events = [w for w in seen.warnings if w.uid == pod.uid and w.reason not in _CONSEQUENCES]
    lines += [f"event {event.reason}: {event.message}" for event in events[-3:]]
    if message.restarts and message.cause in CRASHES:
        lines.append(f"before that, its agent restarted it {message.restarts} time(s) in place")
    return lines


def _accused_lines(seen: Seen, cause: FirstCause) -> list[str]:
    """What is known of workers whom only others accuse."""
    lines = reason_lines(reason for reason in never_ran(seen) if set(reason.workers) & set(cause.workers))
    current = seen.current()
    for pod in [current[worker] for worker in cause.workers if worker in current]:
        if pod.started is not None:
            lost_before = pod.lost and pod.left <= cause.pods[-1].left
            lines.append(f"{worker_of(pod)} {EndOfWorker.of_pod(pod).text if lost_before else 'was running'}")
    return lines


def _gave_up(job: Job, cause: FirstCause) -> str:
    """Why Kubernetes made no further pod."""
    times = len(cause.pods)
    gave_up = _GAVE_UP.get(job.reason, f"the job gave up ({job.reason}: {job.message})")
    return f"worker {cause.pod.index} failed {times} times: {gave_up}" if times > 1 else gave_up


def _other_lines(seen: Seen, cause: FirstCause) -> list[str]:
    """The other pods that were lost: before the end, by themselves, or because of the first cause."""
    current, last = {pod.uid for pod in seen.current().values()}, cause.pods[-1]
    named = {pod.uid for pod in cause.pods}
    replaced: list[Pod] = []
    at_the_end: list[Pod] = []
    for pod in seen.pods:
        if pod.uid in named or not pod.lost or not (pod.failed or pod.started):
            continue
        if pod.uid not in current and pod.left <= last.left and not lost_a_peer(pod):
            replaced.append(pod)
        elif pod.index not in (*cause.workers, last.index):
            at_the_end.append(pod)
    by_itself = {pod.index: pod for pod in at_the_end if failed_by_itself(pod)}
    alike = [index for index, pod in by_itself.items() if cause.first_hand and ended_alike(pod, last)]
    lines = capped(
        f"earlier, {worker_of(pod)} {EndOfWorker.of_pod(pod).text}; its pod was replaced" for pod in replaced
    )
    if alike:
        lines.append(f"failed in the same way: {name_workers(sorted(alike))}")
    lines += capped(
        f"{worker_of(pod)} {EndOfWorker.of_pod(pod).text}, too" for i, pod in by_itself.items() if i not in alike
    )
    if followed := {pod.index for pod in at_the_end} - set(by_itself):
        lines.append(f"ended because of it: {name_workers(sorted(followed))}")
    return lines


def _facts(seen: Seen, cause: FirstCause) -> dict[str, object]:
    """The first cause for programs."""
    pod, message = cause.pod, AgentMessage.of(cause.pod)
    accused = seen.current().get(cause.workers[0])
    return {
        "worker": cause.workers[0],
        "node": accused.node if accused and not cause.first_hand else pod.node,
        "exit_code": pod.exit_code if cause.first_hand else None,
        "reason": message.reason,
        "errors": list(message.errors[-MOST_LINES:]),
    }
