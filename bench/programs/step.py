"""Times the training program's own compiled steps, of one worker or, where TF_CONFIG says so, of several.

Usage: step.py GLOBAL_BATCH STEPS [flags]. Prints the seconds of a step, the best of five measurements of STEPS steps.
REPLICAS in the environment: so many in this process, each a part of its one GPU, or of its CPUs.
"""

import os
import sys
import time
from pathlib import Path

import tensorflow as tf

from trainer.core import experiment_flags
from trainer.core.tf_config import Cluster
from trainer.training.hardware import devices, strategy, tf_logging
from trainer.training.model.experiment import load

PART_MB = 8192  # Of a GPU's memory, for each replica.

tf_logging.set_up_logging(verbosity=0)
argv = [f"--global_batch_size={sys.argv[1]}", "--threads=1", *sys.argv[3:]]
config, rest = experiment_flags.parse(argv)
experiment = load(config.experiment)
if rest or experiment.flags is not None:
    config = experiment_flags.parse_with(experiment.flags, argv)
count = int(sys.argv[2])
cluster = Cluster.from_tf_config(os.environ.get("TF_CONFIG", ""))
devices.configure(config, cluster, Path(config.run_dir))
if replicas := int(os.environ.get("REPLICAS", "0")):
    gpus = tf.config.list_physical_devices("GPU")
    part = tf.config.LogicalDeviceConfiguration(memory_limit=PART_MB if gpus else None)
    tf.config.set_logical_device_configuration((gpus or tf.config.list_physical_devices("CPU"))[0], [part] * replicas)
    names = [f"{'GPU' if gpus else 'CPU'}:{index}" for index in range(replicas)]
    strategy.create = lambda *_: tf.distribute.MirroredStrategy(names)

from trainer.training.assembly import assemble  # noqa: E402  TensorFlow must know its threads first.

parts = assemble(config, cluster, experiment)
trainer, sums = parts.trainer, parts.trainer.scores.start()
trainer.start_epoch(0)
trainer.run(0, 5, sums)
best = float("inf")
for _ in range(5):
    started = time.perf_counter()
    trainer.run(0, count, sums)
    best = min(best, (time.perf_counter() - started) / count)
print(best, flush=True)
strategy.leave(parts.strategy, cluster)
os._exit(0)
