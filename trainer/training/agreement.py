"""What all workers agree on between two chunks of steps: to pause, to stop, and how long the next chunk is."""

import dataclasses

import numpy as np
import tensorflow as tf

from trainer.core.tf_config import Cluster
from trainer.training.collective import WorkersSum


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreed:
    """The same on every worker."""

    pause: bool  # Some worker wishes to do something else between two steps.
    stop: bool  # Some worker wishes the run to stop.
    steps: int  # Length of the next chunk, as the chief's clock has it.


class Agreement:
    """One small collective, asked once a chunk."""

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster | None) -> None:
        workers = cluster.workers if cluster else 1
        self._chief = cluster is None or cluster.is_chief
        self._workers_sum = WorkersSum(strategy, strategy.num_replicas_in_sync // workers)

    def reach(self, *, pause: bool, stop: bool, steps: int) -> Agreed:
        """Tells this worker's wishes, and the chief's length of the next chunk; returns what holds for all."""
        own = np.array([pause, stop, steps if self._chief else 0], np.float64)
        paused, stopped, length = self._workers_sum.of([own])[0]
        return Agreed(pause=paused > 0, stop=stopped > 0, steps=max(1, round(length)))
