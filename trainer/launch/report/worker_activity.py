"""What each worker does, as its own log tells: its agent's state, its step, its restarts. Pure."""

from trainer.core.log_lines import Progress, StateLine
from trainer.launch.cluster.objects import Pod


class WorkerActivity:
    """The newest state and step of every worker whose log is read."""

    def __init__(self) -> None:
        self._states: dict[str, StateLine] = {}  # By the pod's UID: the agent of a new pod counts its restarts from 0.
        self._steps: dict[int, int] = {}  # By the worker's index.

    def read(self, pod: Pod, state: StateLine | None, progress: Progress | None) -> None:
        """Takes in a state or progress line of a pod's log."""
        if state is not None:
            self._states[pod.uid] = state
        if progress is not None:
            self._steps[pod.index] = progress.step

    def state(self, pod: Pod) -> StateLine | None:
        """The last state line of a pod's agent."""
        return self._states.get(pod.uid)

    def step(self, worker: int) -> int | None:
        """The last step of a worker; None before its first, or if its log is not read."""
        return self._steps.get(worker)

    def restarts(self, pods: list[Pod]) -> int | None:
        """How often a worker began again, in place or in another pod, given all its pods; None: not known."""
        in_place = sum(self._states[pod.uid].restarts for pod in pods if pod.uid in self._states)
        total = len(pods) - 1 + in_place
        newest_known = pods[-1].started is None or pods[-1].uid in self._states
        return total if total or newest_known else None
