"""Times the training program's own compiled steps, of one worker or, where TF_CONFIG says so, of several.

Usage: step.py GLOBAL_BATCH STEPS. Prints the seconds of a step, the best of five measurements of STEPS steps.
"""

import os
import sys
import time

from trainer import mnist
from trainer.core.config import Config
from trainer.core.tf_config import Cluster
from trainer.training import optimizers, strategy, tf_logging

tf_logging.set_up_logging(verbosity=0)
config = Config(global_batch_size=int(sys.argv[1]), threads=1)
steps = int(sys.argv[2])
cluster = Cluster.from_tf_config(os.environ.get("TF_CONFIG", ""))
strategy.configure_devices(config)
mirrored = strategy.create(config, cluster)

from trainer.training.trainer import Trainer  # noqa: E402  TensorFlow must know its threads first.

with mirrored.scope():
    model = mnist.build_model(config)
    optimizer = optimizers.build(config)
    optimizer.build(model.trainable_variables)
trainer = Trainer(
    config=config,
    strategy=mirrored,
    model=model,
    optimizer=optimizer,
    data=mnist.load_data(config),
    workers=cluster.workers if cluster else 1,
)
trainer.start_epoch(0)
trainer.run(0, 5, 0.0, 0.0)
best = float("inf")
for _ in range(5):
    started = time.perf_counter()
    trainer.run(0, steps, 0.0, 0.0)
    best = min(best, (time.perf_counter() - started) / steps)
print(best, flush=True)
strategy.leave(mirrored, cluster)
os._exit(0)
