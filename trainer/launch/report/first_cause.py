"""Which worker ended a run that failed, and how each pod ended. Pure: from what was seen."""

import dataclasses
import re
from collections.abc import Sequence

from trainer.core.exit_codes import FINAL, ExitCode, meaning
from trainer.launch.cluster.objects import Pod, Seen

# How `Ended.described`, a meeting and its callers begin, who name the worker that ended the run to every agent.
_ACCUSED = re.compile(r"(?:the (?:agent|name|training flags) of )?workers? (\d+(?:, \d+)*)\b")
_KILLED = 137  # SIGKILL.
_NOT_STARTED = {"StartError", "ContainerCannotRun"}
_DISRUPTIONS = {
    "PreemptionByScheduler": "preempted by a pod of higher priority",
    "EvictionByEvictionAPI": "evicted (a drain, or another request to evict it)",
    "DeletionByTaintManager": "taken from its node, which was lost or tainted",
    "DeletionByPodGC": "removed because its node is gone",
    "TerminationByKubelet": "ended by its node",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blame:
    """The first cause of a run's end."""

    workers: tuple[int, ...]  # One, but where several did not come.
    streak: tuple[Pod, ...]  # The pods of one worker whose ends tell it, all in the same way; oldest first.

    @property
    def pod(self) -> Pod:
        """The first that tells it."""
        return self.streak[0]

    @property
    def own(self) -> bool:
        """Whether it is a pod of the worker that is to blame, rather than a witness."""
        return self.pod.index in self.workers


def first_cause(seen: Seen) -> Blame | None:
    """Who ended the run, as far as the pods' ends and their agents tell; None: no pod has failed.

    A worker whose later pod was well when the run ended has recovered and is not to blame. Of the others it is the one
    that failed first, or whom that one names.
    """
    ends = _ends(seen)
    for group in (
        [pod for pod in ends if pod.exit_code in FINAL],
        [pod for pod in ends if by_itself(pod)],
        [pod for pod in ends if counted(pod)],
        ends,
    ):
        if group:
            first = _earliest(seen, group)
            accused = _accused(first)
            if accused and first.index not in accused:
                # If the accused failed by itself, its own end tells more than the witness's.
                shown = [pod for pod in ends if pod.index in accused and by_itself(pod)]
                if not shown:
                    return Blame(workers=accused, streak=_streak(seen, first))
                first = _earliest(seen, shown)
            return Blame(workers=(first.index,), streak=_streak(seen, first))
    return None


def by_itself(pod: Pod) -> bool:
    """Whether a pod failed of its own accord, rather than because of another or because it was taken away."""
    if pod.reason == "OOMKilled":
        return True
    told_to_go = pod.exit_code == _KILLED and pod.taken is not None  # Its time to leave was over.
    return (
        counted(pod)
        and pod.exit_code not in (None, 0, ExitCode.PEER_LOST)
        and not told_to_go
        and _accused(pod) in ((), (pod.index,))
    )


def counted(pod: Pod) -> bool:
    """Whether a pod failed, neither taken away by Kubernetes nor told to go."""
    taken = pod.disruption is not None or pod.reason == "Evicted" or pod.exit_code == ExitCode.TERMINATED
    return pod.failed and not taken


def alike(pod: Pod, other: Pod) -> bool:
    """Whether two pods ended in the same way."""
    return (pod.exit_code, pod.reason) == (other.exit_code, other.reason)


def lost(pod: Pod) -> str:
    """Why a pod ended, in words that follow "worker 1 on node2"."""
    if pod.reason == "Evicted":
        return f"was evicted by its node: {pod.detail}".removesuffix(": ")
    if pod.disruption:
        word, sentence = pod.disruption
        return f"was {_DISRUPTIONS.get(word, word)}" + (f": {sentence}" if sentence else "")
    if pod.reason == "OOMKilled":
        return f"ran out of memory (OOMKilled, exit code {pod.exit_code}): raise worker.resources.limits.memory"
    if pod.reason in _NOT_STARTED:
        return f"could not start its container ({pod.reason}, exit code {pod.exit_code})"
    if pod.exit_code is not None:
        return _exit(pod, pod.exit_code)
    if pod.phase == "Failed" and pod.reason:
        return f"failed: {pod.reason} {pod.detail}".rstrip()
    return "was deleted" if pod.gone or pod.deleting else "failed"


def told(pod: Pod) -> str:
    """What a pod's agent gave as its reason."""
    return str(pod.facts.get("reason") or "")


def _exit(pod: Pod, code: int) -> str:
    if code == _KILLED and pod.taken is not None:
        return f"was deleted, and killed when its time to leave was over (exit code {code})"
    word = meaning(code)
    signal = str(pod.facts.get("signal") or "")
    if signal and signal not in word:
        word += f", by {signal}"
    # An agent that itself killed its training process, which was frozen or hung, says so.
    if signal == "SIGKILL" and "and was killed" not in told(pod):
        word += "; by the kernel for want of memory, if nobody else did it"
    return f"ended with exit code {code} ({word})"


def _ends(seen: Seen) -> list[Pod]:
    """How the last pod of each worker that ran was lost, but for those that were told to go at the run's end."""
    last = {pod.index: pod for pod in seen.pods if pod.started is not None or pod.failed}
    given_up = float("inf") if seen.job.finished is None else seen.job.finished

    def swept(pod: Pod) -> bool:
        return pod.taken is not None and pod.taken >= given_up and pod.exit_code in (None, _KILLED, ExitCode.TERMINATED)

    return [pod for pod in last.values() if pod.lost and not swept(pod)]


def _earliest(seen: Seen, pods: Sequence[Pod]) -> Pod:
    return min(pods, key=lambda pod: (_streak(seen, pod)[0].left, pod.index))


def _streak(seen: Seen, pod: Pod) -> tuple[Pod, ...]:
    """The pod and those of its worker before it that ended in the same way, without a step more in between."""
    streak = [pod]
    before = [p for p in seen.of(pod.index) if counted(p) and p.left < pod.left]
    for earlier in reversed(before):
        later = streak[0]
        known = "step" in earlier.facts and "step" in later.facts
        if not alike(earlier, later) or (known and earlier.facts["step"] < later.facts["step"]):
            break
        streak.insert(0, earlier)
    return tuple(streak)


def _accused(pod: Pod) -> tuple[int, ...]:
    """The workers that ended the run, as the pod's agent heard it."""
    named = _ACCUSED.match(told(pod))
    return tuple(map(int, named[1].split(", "))) if named else ()
