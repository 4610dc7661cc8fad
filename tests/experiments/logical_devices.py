"""MNIST and its model, in a process whose CPU is two devices to TensorFlow, as a worker's two GPUs would be."""

from typing import Any

import tensorflow as tf
from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

from trainer import mnist
from trainer.core.config import Config
from trainer.core.tf_config import Cluster
from trainer.training.hardware import strategy

load_data, build_model, preprocess, Flags = mnist.load_data, mnist.build_model, mnist.preprocess, mnist.Flags

DEVICES = 2

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * DEVICES
)


def _cpus(_self: Any, _resolver: Any, worker: str) -> tuple[tuple[str, ...], str]:
    return tuple(f"{worker}/device:CPU:{index}" for index in range(DEVICES)), "CPU"


# Of CPUs the strategies take one a worker, whatever there is; of GPUs all.
CollectiveAllReduceExtended._initialize_local_devices = _cpus
_create = strategy.create


def _mirrored(config: Config, cluster: Cluster | None) -> tf.distribute.Strategy:
    if cluster is not None:
        return _create(config, cluster)
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(DEVICES)])


strategy.create = _mirrored
