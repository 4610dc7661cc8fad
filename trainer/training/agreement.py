"""What all workers agree on between two chunks of steps: to pause, to stop, and how long the next chunk is."""

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.core.exit_codes import DataError, UsageError
from trainer.core.tf_config import Cluster
from trainer.training.hardware.collective import WorkersSum


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreed:
    """The same on every worker."""

    pause: bool  # Some worker wishes to do something else between two steps.
    stop: bool  # Some worker wishes the run to stop.
    finish: bool  # The chief wishes the run to end here, with its result.
    steps: int  # Length of the next chunk, as the chief's clock has it.


class Agreement:
    """One small collective, asked once a chunk."""

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster | None) -> None:
        workers = cluster.workers if cluster else 1
        self._chief = cluster is None or cluster.is_chief
        self._cluster = cluster
        self._workers_sum = WorkersSum(strategy, strategy.num_replicas_in_sync // workers)

    def reach(self, *, pause: bool, stop: bool, steps: int, finish: bool = False) -> Agreed:
        """Tells this worker's wishes, and the chief's length of the next chunk; returns what holds for all."""
        own = np.array([pause, stop, steps if self._chief else 0, finish], np.float64)
        paused, stopped, length, finished = self._workers_sum.of([own])[0]
        return Agreed(pause=bool(paused), stop=bool(stopped), steps=max(1, round(float(length))), finish=bool(finished))

    def go_on(self, *, more: bool, stop: bool) -> bool | None:
        """Tells whether this worker has more of an evaluation to do, and whether it wishes to stop.

        Returns:
          Whether some worker has more to do; None: some has, and some worker wishes to stop.
        """
        some_more, stopped = self._workers_sum.of([np.array([more, stop], np.float64)])[0]
        return None if some_more and stopped else bool(some_more)

    def check_alike(self, identity: dict[str, Any]) -> None:
        """Refuses workers that would not train the same: each has loaded its data and built its model by itself.

        Raises:
          UsageError, DataError: on every worker; names one that differs from worker 0.
        """
        if self._cluster is None:
            return
        named = ("data set", "model")
        rest = {name: value for name, value in identity.items() if name not in named}
        digests = [_digest(value) for value in (*(identity[name] for name in named), rest)]
        table = np.zeros([self._cluster.workers, len(digests)], np.float64)
        table[self._cluster.index] = digests
        table = self._workers_sum.of([table])[0]
        for worker, row in enumerate(table):
            if row[0] != table[0][0]:
                raise DataError(
                    f"worker {worker} has loaded other data than worker 0; load_data must return the same on every "
                    "worker, and the trainer takes each worker's share itself"
                )
            if list(row) != list(table[0]):
                raise UsageError(
                    f"worker {worker} has another model or other flags than worker 0; every worker must be started "
                    "with the same code and the same flags"
                )


def _digest(value: Any) -> int:
    """48 bits, which a float64 holds exactly."""
    return int.from_bytes(hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()[:6], "big")
