"""Times the training program's own compiled steps, of one worker or, where TF_CONFIG says so, of several.

Usage: step.py GLOBAL_BATCH STEPS. Prints the seconds of a step, the best of five measurements of STEPS steps.
"""

import os
import sys
import time
from pathlib import Path

from trainer.core import experiment_flags
from trainer.core.tf_config import Cluster
from trainer.training import devices, strategy, tf_logging
from trainer.training.experiment import load

tf_logging.set_up_logging(verbosity=0)
config, unchecked = experiment_flags.parse([f"--global_batch_size={sys.argv[1]}", "--threads=1", *sys.argv[3:]])
count = int(sys.argv[2])
cluster = Cluster.from_tf_config(os.environ.get("TF_CONFIG", ""))
devices.configure(config, cluster, Path(config.run_dir))

from trainer.training.assembly import assemble  # noqa: E402  TensorFlow must know its threads first.

parts = assemble(config, cluster, load(config.experiment))
trainer, sums = parts.trainer, parts.trainer.scores.zeros()
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
