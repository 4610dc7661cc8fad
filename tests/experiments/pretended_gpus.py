"""MNIST and its model on CPUs, in a process that says of itself what a worker with GPUs would.

GPUS in the environment: the identities of this worker's GPUs, words between spaces. DRIVER: the driver's version.
The model's function prints which library the strategy asks to sum gradients.
"""

import os
from typing import Any

import tensorflow as tf

from trainer import mnist
from trainer.core.config import Config
from trainer.training.hardware import cuda, worker_gpus

load_data, preprocess, Flags = mnist.load_data, mnist.preprocess, mnist.Flags

uuids = os.environ.get("GPUS", "").split()
worker_gpus.of_this_process = lambda: worker_gpus.WorkerGpus(count=len(uuids), uuids=tuple(uuids))
if "DRIVER" in os.environ:
    cuda.driver_version = lambda *_: tuple(map(int, os.environ["DRIVER"].split(".")))


def build_model(config: Config) -> Any:
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync > 1:

        def summed() -> Any:
            return tf.distribute.get_replica_context().all_reduce("SUM", tf.ones([]))

        graph = tf.function(lambda: strategy.run(summed), autograph=False).get_concrete_function().graph
        hints = {op.get_attr("communication_hint").decode() for op in graph.get_operations() if "Collective" in op.type}
        print(f"sums by {' '.join(sorted(hints))}", flush=True)
    return mnist.build_model(config)
