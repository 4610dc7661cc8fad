"""What the workers tell each other about their GPUs, before a collective could wait for ever for one that has none."""

import dataclasses
import json
import time
from collections.abc import Sequence

import tensorflow as tf
from tensorflow.python.eager import context

from trainer.core.exit_codes import AcceleratorError
from trainer.core.tf_config import Cluster
from trainer.training.hardware import cuda

_WAIT_SECONDS = 120.0  # They all are there when the strategy is made, and have nothing to do but to say it.
_ONE_WAIT_MS = 1000  # TensorFlow holds the interpreter as long, and the agent hears no beat.


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerGpus:
    """One worker's."""

    count: int  # GPUs that TensorFlow sees.
    uuids: tuple[str, ...]  # What they are in all the world; empty where the driver does not say.


def exchange(cluster: Cluster) -> list[WorkerGpus]:
    """Tells the others of this worker's GPUs; returns those of all workers, in their order.

    The strategy must have been made: its coordination service carries the words.

    Raises:
      tf.errors.DeadlineExceededError: a worker does not say it.
    """
    own = of_this_process()
    service = context.context()  # What of tf.distribute speaks before any collective; no public name leads there.
    service.set_config_key_value(_key(cluster.index), json.dumps(dataclasses.asdict(own)))
    deadline = time.monotonic() + _WAIT_SECONDS
    told = []
    for worker in range(cluster.workers):
        while True:
            try:
                told.append(json.loads(service.get_config_key_value(_key(worker), _ONE_WAIT_MS)))
                break
            except tf.errors.DeadlineExceededError:
                if time.monotonic() > deadline:
                    raise
    return [WorkerGpus(count=one["count"], uuids=tuple(one["uuids"])) for one in told]


def of_this_process() -> WorkerGpus:
    """This worker's GPUs."""
    count = len(tf.config.list_physical_devices("GPU"))
    return WorkerGpus(count=count, uuids=tuple(cuda.uuids()) if count else ())


def check_alike(workers: Sequence[WorkerGpus]) -> None:
    """Refuses workers that have different numbers of GPUs: their collectives would wait for each other.

    Raises:
      AcceleratorError: says who has how many.
    """
    counts = [worker.count for worker in workers]
    if len(set(counts)) > 1:
        each = ", ".join(f"worker {index} has {count}" for index, count in enumerate(counts))
        raise AcceleratorError(
            f"all workers need the same number of GPUs, and {each}; give each as many, or take all to CPUs: "
            "CUDA_VISIBLE_DEVICES=-1 (in the chart: worker.gpus)"
        )


def take_nccl(communication: str, workers: Sequence[WorkerGpus]) -> bool:
    """Whether NCCL sums up the gradients: it can where no GPU is two workers'.

    Args:
      communication: the flag; "auto" takes NCCL wherever it can be had.
      workers: all of them, with the same number of GPUs.

    Raises:
      AcceleratorError: the flag asks for NCCL, and it cannot be had.
    """
    if communication == "ring":
        return False
    every = [uuid for worker in workers for uuid in worker.uuids]
    if not workers[0].count:
        why = "the workers have no GPU"
    elif len(every) < sum(worker.count for worker in workers):
        why = "the driver does not say which GPUs the workers have, so that two may share one"
    elif len(set(every)) < len(every):
        why = "two workers share a GPU"
    else:
        return True
    if communication == "nccl":
        raise AcceleratorError(f"--communication=nccl needs a GPU for each worker, and {why}; leave the flag out")
    return False


def _key(worker: int) -> str:
    return f"trainer/gpus/{worker}"
