"""What each worker does, as its own log tells: its agent's state, its step, its restarts. Pure."""

from trainer.core.log_lines import Progress, StateLine
from trainer.launch.cluster.objects import Pod


class Activity:
    """The newest of every worker whose log is read."""

    def __init__(self) -> None:
        """Knows nothing yet."""
        self._states: dict[str, StateLine] = {}  # By the pod's UID: a new pod's agent counts its restarts anew.
        self._steps: dict[int, int] = {}

    def read(self, pod: Pod, state: StateLine | None, progress: Progress | None) -> None:
        """A state or progress line of a pod's log."""
        if state is not None:
            self._states[pod.uid] = state
        if progress is not None:
            self._steps[pod.index] = progress.step

    def state(self, pod: Pod) -> StateLine | None:
        """The last that a pod's agent said of itself."""
        return self._states.get(pod.uid)

    def step(self, worker: int) -> int | None:
        """The last step of a worker; None before its first, or if its log is not read."""
        return self._steps.get(worker)

    def restarts(self, pods: list[Pod]) -> int | None:
        """How often a worker began anew, given all its pods: in place, or in another pod; None: it is not known."""
        known = len(pods) - 1 + sum(self._states[pod.uid].restarts for pod in pods if pod.uid in self._states)
        told = pods[-1].started is None or pods[-1].uid in self._states
        return known if known or told else None
