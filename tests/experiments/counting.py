"""Counts how often each example is trained on: the model is a table with a weight an example, and each visit adds one.

Its data is a source. Flags of its own make it slow, break examples, or change its length.
"""

import dataclasses
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from trainer.core.settings import setting
from trainer.sources import DamagedRecord

VALIDATION = 70


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """How the source behaves."""

    examples: int = setting(1000, "in the training data", minimum=1)
    together: bool = setting(True, "give several examples at once")
    millis: float = setting(0.0, "that reading an example takes", minimum=0.0)
    damaged: str = setting("", "examples that cannot be read")
    odd: str = setting("", "an example and what is odd of it: 700:shape, 700:type, 700:nan, 700:label, 700:built")
    stuck: int = setting(-1, "example that is never read to its end")
    read_log: str = setting("", "file for the numbers of the examples that are read")


class Source:
    """Gives the number of an example as its input."""

    def __init__(self, config: Any, examples: int) -> None:
        self._config, self._examples = config, examples
        self._damaged = {int(row) for row in config.damaged.split(",") if row}
        row, _, self._how = config.odd.partition(":")
        self._odd = int(row or -1)

    def __len__(self) -> int:
        return self._examples

    def __getitem__(self, row: int) -> Any:
        if self._examples == VALIDATION:
            return np.int32(row), np.float32(1)
        if self._config.read_log:
            with Path(self._config.read_log).open("a") as log:
                log.write(f"{row} {os.getpid()} {threading.current_thread().name}\n")
        time.sleep(self._config.millis / 1000)
        if row == self._config.stuck:
            time.sleep(1000)
        if row in self._damaged:
            raise DamagedRecord("records.bin", row * 4, "its checksum is wrong")
        if row == self._odd:
            return {
                "shape": (np.zeros(2, np.int32), np.float32(1)),
                "type": (np.int64(row), np.float32(1)),
                "nan": (np.int32(row), np.float32(np.nan)),
                "label": (np.int32(row), np.float32(7)),
                "built": ({"row": np.int32(row)}, np.float32(1)),
            }[self._how]
        return np.int32(row), np.float32(1)


class Together(Source):
    """Gives several at once, too."""

    def __getitems__(self, rows: list[int]) -> list[Any]:
        return [self[row] for row in rows]


def load_data(config: Any) -> Any:
    """Sources for both splits."""
    kind = Together if config.together else Source
    return kind(config, config.examples), kind(config, VALIDATION)


def build_model(config: Any) -> Any:
    """A table whose entry of an example grows by one with each visit."""
    import keras

    class Table(keras.layers.Layer):  # type: ignore[misc]
        def build(self, _: Any) -> None:
            self.table = self.add_weight(shape=(config.examples,), initializer="zeros", name="table")

        def call(self, rows: Any) -> Any:
            return keras.ops.take(self.table, rows)

    inputs = keras.Input((), dtype="int32")
    model = keras.Model(inputs, Table()(inputs))

    def less_with_each_visit(y: Any, seen: Any) -> Any:
        return -y * seen

    # The gradient of an entry in the batch's mean is -1/batch.
    model.compile(keras.optimizers.SGD(float(config.global_batch_size)), loss=less_with_each_visit)
    return model
