"""What all workers agree on between two chunks of steps: whether to pause or to stop, and how long the next chunk is."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.core.tf_config import Cluster


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreed:
    """The same on every worker."""

    pause: bool  # Some worker wishes to do something else between two steps.
    stop: bool  # Some worker wishes the run to stop.
    steps: int  # Of the next chunk: the chief's.


class Agreement:
    """One small collective, asked once a chunk."""

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster | None) -> None:
        self._strategy, self._alone = strategy, cluster is None or cluster.workers == 1
        self._chief = cluster is None or cluster.is_chief
        self._local = strategy.num_replicas_in_sync // (cluster.workers if cluster else 1)
        if not self._alone:
            self._sum = tf.function(
                self._summed, autograph=False, input_signature=[tf.TensorSpec([3], tf.float32)]
            )  # fmt: skip

    def reach(self, *, pause: bool, stop: bool, steps: int) -> Agreed:
        """Tells this worker's wishes, and the chief's length of the next chunk; returns what holds for all."""
        if self._alone:
            return Agreed(pause=pause, stop=stop, steps=steps)
        own = np.array([pause, stop, steps if self._chief else 0], np.float32)
        paused, stopped, length = self._sum(tf.constant(own)).numpy()
        return Agreed(pause=paused > 0, stop=stopped > 0, steps=max(1, round(float(length) / self._local)))

    def _summed(self, own: tf.Tensor) -> Any:
        def replica_sum() -> Any:
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(own))  # A copy, on this replica's device.

        return self._strategy.experimental_local_results(self._strategy.run(replica_sum))[0]
