"""Times how training reads the TFRecord shards of a folder, whose records are a label of one byte and pixels.

Usage: reading.py ours|tf_data FOLDER RECORD_BYTES STEP [flags]. Begins at STEP of an epoch, in batches of 128, and goes
on to its end. Prints {"first": seconds to the first batch, "seconds": to the last, "examples": read}.
"""

import json
import os
import sys
import time
from typing import Any

import numpy as np

from trainer import sources

BATCH = 128


def parsed(record: bytes) -> Any:
    """For `TFRecords`; of a module that imports no TensorFlow, as processes that read import it, too."""
    return np.frombuffer(record, np.uint8, offset=1), np.uint8(record[0])


def ours() -> tuple[float, int]:
    from trainer.training.data.feeding import Shares, feed
    from trainer.training.data.read_ahead import Readers
    from trainer.training.data.source_split import SourceSplit

    config, _ = experiment_flags.parse([f"--global_batch_size={BATCH}", *sys.argv[5:]])
    readers = Readers(config)
    split = SourceSplit(sources.TFRecords(folder, parsed), "training")
    steps = split.examples // BATCH
    shares = Shares(batch=BATCH, of_replicas=[BATCH], first=0, devices=["CPU:0"])
    feeding = feed(config, split, shares, steps, readers)
    at, first = step, 0.0
    while at < steps:
        _, at = feeding.at(at, steps)
        first = first or time.perf_counter() - began
    return first, (steps - step) * BATCH


def tf_data() -> tuple[float, int]:
    import tensorflow as tf

    files = sorted(tf.io.gfile.glob(f"{folder}/*.tfrecord"))
    total = sum(os.path.getsize(file) for file in files) // (size + 16)

    def parse(record: Any) -> Any:
        values = tf.io.decode_raw(record, tf.uint8)
        return tf.ensure_shape(values[1:], [size - 1]), values[0]

    data = tf.data.TFRecordDataset(files, num_parallel_reads=tf.data.AUTOTUNE)
    data = data.shuffle(total, seed=1).skip(step * BATCH)
    data = data.map(parse, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH, drop_remainder=True)
    first, examples = 0.0, 0
    for x, _ in data.prefetch(tf.data.AUTOTUNE):
        first = first or time.perf_counter() - began
        examples += len(x)
    return first, examples


if __name__ == "__main__":
    import tensorflow

    # What a training process has imported before it reads.
    import trainer.training.data.feeding  # noqa: F401
    from trainer.core import experiment_flags

    kind, folder, size, step = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    tensorflow.constant(0)
    began = time.perf_counter()
    first_batch, count = {"ours": ours, "tf_data": tf_data}[kind]()
    print(json.dumps({"first": first_batch, "seconds": time.perf_counter() - began, "examples": count}), flush=True)
    os._exit(0)
