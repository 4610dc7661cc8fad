"""Which worker ended a run that failed. Pure: from how the pods ended, and from the fields that their agents left."""

import dataclasses
from collections.abc import Sequence

from trainer.core.causes import CONSEQUENCES, Cause
from trainer.core.exit_codes import PodEnd, rule
from trainer.launch.cluster.objects import Pod, Seen
from trainer.launch.report.agent_message import AgentMessage
from trainer.launch.report.end_of_worker import KILLED


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstCause:
    """The first cause of a run's end."""

    workers: tuple[int, ...]  # One, unless several did not come.
    pods: tuple[Pod, ...]  # Pods of one worker that tell it, which all ended in the same way; oldest first.

    @property
    def pod(self) -> Pod:
        """The first pod that tells it."""
        return self.pods[0]

    @property
    def first_hand(self) -> bool:
        """Whether the pod is of the worker that is to blame, rather than of a witness."""
        return self.pod.index in self.workers


def find_first_cause(seen: Seen) -> FirstCause | None:
    """Who ended the run, as far as the pods' ends and their agents tell; None: no pod has failed.

    A worker whose later pod was well when the run ended has recovered and is not to blame. Among the others it is the
    worker that failed first, or the one whom that worker's agent accuses.
    """
    ends = _ends(seen)
    for group in (
        [pod for pod in ends if _pod_end(pod) is PodEnd.FAILS],
        [pod for pod in ends if failed_by_itself(pod)],
        [pod for pod in ends if _counts_as_failure(pod)],
        ends,
    ):
        if group:
            return _cause_told_by(seen, _earliest(seen, group), ends)
    return None


def failed_by_itself(pod: Pod) -> bool:
    """Whether a pod failed of its own accord, rather than because of another or because it was taken away."""
    if pod.reason == "OOMKilled":
        return True
    overdue = pod.exit_code == KILLED and pod.taken is not None  # It was asked to leave and took too long.
    return (
        _counts_as_failure(pod)
        and pod.exit_code is not None
        and rule(pod.exit_code).cause not in CONSEQUENCES
        and not overdue
        and not AgentMessage.of(pod).accused
    )


def lost_a_peer(pod: Pod) -> bool:
    """Whether a pod ended only because another worker was lost."""
    return pod.exit_code is not None and rule(pod.exit_code).cause is Cause.PEER_LOST


def ended_alike(pod: Pod, other: Pod) -> bool:
    """Whether two pods ended in the same way."""
    return (pod.exit_code, pod.reason) == (other.exit_code, other.reason)


def _cause_told_by(seen: Seen, pod: Pod, ends: Sequence[Pod]) -> FirstCause:
    """What a pod's end tells: that of its own worker, or of those whom its agent accuses."""
    accused = AgentMessage.of(pod).accused
    if not accused:
        return FirstCause(workers=(pod.index,), pods=_pods_alike(seen, pod))
    # If an accused worker failed by itself, its own end tells more than the witness does.
    culprits = [end for end in ends if end.index in accused and failed_by_itself(end)]
    if not culprits:
        return FirstCause(workers=accused, pods=_pods_alike(seen, pod))
    culprit = _earliest(seen, culprits)
    return FirstCause(workers=(culprit.index,), pods=_pods_alike(seen, culprit))


def _pod_end(pod: Pod) -> PodEnd | None:
    """What the Job makes of a pod's exit code; None: it has none."""
    return None if pod.exit_code is None else rule(pod.exit_code).pod_end


def _counts_as_failure(pod: Pod) -> bool:
    """Whether a pod failed, and neither did Kubernetes take it away nor was it asked to leave."""
    taken = pod.disruption is not None or pod.reason == "Evicted" or _pod_end(pod) is PodEnd.IGNORED
    return pod.failed and not taken


def _ends(seen: Seen) -> list[Pod]:
    """The last pod that ran of each worker, if it was lost, but not if only because the run had ended."""
    last = {pod.index: pod for pod in seen.pods if pod.started is not None or pod.failed}
    given_up = float("inf") if seen.job.finished is None else seen.job.finished

    def cleaned_up(pod: Pod) -> bool:
        asked = pod.exit_code in (None, KILLED) or _pod_end(pod) is PodEnd.IGNORED
        return asked and pod.taken is not None and pod.taken >= given_up

    return [pod for pod in last.values() if pod.lost and not cleaned_up(pod)]


def _earliest(seen: Seen, pods: Sequence[Pod]) -> Pod:
    """The pod whose worker was the first to end in this way."""
    return min(pods, key=lambda pod: (_pods_alike(seen, pod)[0].left, pod.index))


def _pods_alike(seen: Seen, pod: Pod) -> tuple[Pod, ...]:
    """The pod, and those of its worker before it that ended in the same way without a step more in between."""
    pods = [pod]
    earlier_pods = [p for p in seen.of(pod.index) if _counts_as_failure(p) and p.left < pod.left]
    for earlier in reversed(earlier_pods):
        later = pods[0]
        if not ended_alike(earlier, later) or _made_steps(earlier, later):
            break
        pods.insert(0, earlier)
    return tuple(pods)


def _made_steps(earlier: Pod, later: Pod) -> bool:
    """Whether the later of two pods is known to have come further than the earlier one."""
    before, after = AgentMessage.of(earlier).step, AgentMessage.of(later).step
    return before is not None and after is not None and before < after
