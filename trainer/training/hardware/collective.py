"""Sums over all replicas of what each of them has."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf


def summed(context: Any, values: Sequence[tf.Tensor | tf.IndexedSlices]) -> list[Any]:
    """Sums over all replicas, in one collective for each type of number and one for each sparse value.

    They follow each other in the same order everywhere: two that wait for each other on two workers wait for ever.
    """
    groups: dict[Any, list[int]] = {}
    for place, value in enumerate(values):
        groups.setdefault(place if isinstance(value, tf.IndexedSlices) else value.dtype, []).append(place)
    results: dict[int, Any] = {}
    before: list[tf.Tensor] = []
    for places in groups.values():
        sparse = isinstance(values[places[0]], tf.IndexedSlices)
        own = values[places[0]] if sparse else _packed([values[place] for place in places])
        if before:
            with tf.control_dependencies(before):
                own = tf.nest.map_structure(tf.identity, own, expand_composites=True)
        received = context.all_reduce(tf.distribute.ReduceOp.SUM, own)
        parts = [received] if sparse else _unpacked(received, [values[place].shape for place in places])
        results |= dict(zip(places, parts, strict=True))
        before = tf.nest.flatten(received, expand_composites=True)
    return [results[place] for place in range(len(values))]


def _packed(values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Values of one type as one row of numbers."""
    return tf.concat([tf.reshape(value, [-1]) for value in values], axis=0)


def _unpacked(packed: tf.Tensor, shapes: Sequence[tf.TensorShape]) -> list[tf.Tensor]:
    """The values that were packed; `tf.split` would copy each, a slice that begins and ends at 64 bytes is none."""
    values, begin = [], 0
    for shape in shapes:
        size = shape.num_elements()
        values.append(tf.reshape(tf.slice(packed, [begin], [size]), shape))
        begin += size
    return values


def contribution(value: tf.Tensor | None, share: float, *, first: bool) -> tf.Tensor | None:
    """What a replica adds to a state that the forward pass has changed.

    Of floating-point numbers the mean over the batch counts, of whole numbers those of the first replica.
    """
    if value is None:
        return None
    if value.dtype.is_floating:
        return value * tf.cast(share, value.dtype)
    whole = tf.cast(value, tf.int32) if value.dtype == tf.bool else value
    return whole if first else tf.zeros_like(whole)


def here(replicas_of_process: int) -> tuple[Any, int, int]:
    """The replica that is being traced: its context, its number among all, and its number in this process."""
    context = tf.distribute.get_replica_context()
    replica = int(tf.get_static_value(context.replica_id_in_sync_group))
    return context, replica, replica % replicas_of_process


def first_replica(strategy: tf.distribute.Strategy, replicas_of_process: int) -> int:
    """The number, among all, of this process's first replica."""
    resolver = strategy.cluster_resolver
    if resolver is None or strategy.num_replicas_in_sync == replicas_of_process:
        return 0
    tasks = resolver.cluster_spec().as_dict()
    before = len(tasks.get("chief", ())) if resolver.task_type == "worker" else 0
    return int(before + resolver.task_id) * replicas_of_process


class WorkersSum:
    """Sums what each worker has, as arrays."""

    def __init__(self, strategy: tf.distribute.Strategy, replicas_of_process: int) -> None:
        self._strategy, self._local = strategy, replicas_of_process
        self._alone = strategy.num_replicas_in_sync == replicas_of_process
        self._sum = tf.function(
            self._summed, autograph=False, input_signature=[tf.TensorSpec([None], tf.float64)]
        )  # fmt: skip

    def of(self, values: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """The sum of what all workers give, each in the same shapes."""
        if self._alone:
            return list(values)
        flat = np.concatenate([np.ravel(value).astype(np.float64) for value in values])
        total = self._sum(tf.constant(flat)).numpy()
        ends = np.cumsum([np.size(value) for value in values])
        pieces = np.split(total, ends[:-1])
        return [
            piece.reshape(np.shape(value)).astype(np.asarray(value).dtype)
            for piece, value in zip(pieces, values, strict=True)
        ]

    def _summed(self, own: tf.Tensor) -> Any:
        def replica_sum() -> Any:
            context, _, local = here(self._local)
            # A copy, on this replica's device; of a worker with several replicas one speaks.
            value = tf.identity(own) if local == 0 else tf.zeros_like(own)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, value)

        return self._strategy.experimental_local_results(self._strategy.run(replica_sum))[0]
