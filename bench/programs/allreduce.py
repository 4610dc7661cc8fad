"""Times the strategy's all-reduce of one tensor that is as large as all gradients of the example model mirrored.

This and the same step without communication are the least that a step of several workers takes with TensorFlow's
collectives. Usage: allreduce.py STEPS, with TF_CONFIG. Prints the seconds of a step, the best of five measurements.
"""

import os
import sys
import time
from pathlib import Path

import tensorflow as tf

from trainer.core.config import Config
from trainer.core.tf_config import Cluster
from trainer.training.hardware import devices, strategy

FLOATS = 407_050

config = Config(threads=1)
cluster = Cluster.from_tf_config(os.environ["TF_CONFIG"])
devices.configure(config, cluster, Path(config.run_dir))
mirrored = strategy.create(config, cluster)


def summed(value: tf.Tensor) -> tf.Tensor:
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value * 0.5)


def loop(count: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    return tf.while_loop(
        lambda i, _: i < count,
        lambda i, value: (i + 1, mirrored.run(summed, args=(value,))),
        [0, value],
        parallel_iterations=1,
    )[1]


run, steps, ones = tf.function(loop, autograph=False), tf.constant(int(sys.argv[1])), tf.ones([FLOATS])
run(tf.constant(5), ones)
best = float("inf")
for _ in range(5):
    started = time.perf_counter()
    float(run(steps, ones)[0])
    best = min(best, (time.perf_counter() - started) / int(sys.argv[1]))
print(best, flush=True)
strategy.leave(mirrored, cluster)
os._exit(0)
