"""Which pods' logs are followed: of each worker one pod at a time, in the order in which its pods started."""

import collections
from collections.abc import Callable

from trainer.launch.cluster.objects import Pod
from trainer.launch.cluster.watches import Kube, News


class LogFollower:
    """Follows the log of a worker's next pod when that of the pod before has ended."""

    def __init__(self, kube: Kube, tell: Callable[[News], None]) -> None:
        """Makes a follower; `tell` takes the lines and the ends of logs."""
        self._kube, self._tell = kube, tell
        self._known: set[str] = set()  # UIDs of all pods that were ever added.
        # By the worker's index: the pod whose log is followed, then the pods that wait for its end.
        self._pods: dict[int, collections.deque[Pod]] = collections.defaultdict(collections.deque)

    @property
    def busy(self) -> bool:
        """Whether the log of any pod has not ended."""
        return any(self._pods.values())

    def add(self, pod: Pod) -> None:
        """Follows a pod's log, now or after those of its worker's pods before; a pod may be added again."""
        if pod.uid in self._known:
            return
        self._known.add(pod.uid)
        self._pods[pod.index].append(pod)
        if len(self._pods[pod.index]) == 1:
            self._follow(pod)

    def end(self, pod: Pod) -> bool:
        """Goes on to the worker's next pod; returns whether this pod's log was the one that is followed."""
        pods = self._pods[pod.index]
        if not pods or pods[0].uid != pod.uid:
            return False
        pods.popleft()
        if pods:
            self._follow(pods[0])
        return True

    def _follow(self, pod: Pod) -> None:
        self._kube.follow(pod.name, pod.uid, self._tell)
