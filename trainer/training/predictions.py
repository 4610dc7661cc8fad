"""A model's outputs for every example of the validation data, in its order, by one worker or by several.

The data are cut into the same batches whatever the number of workers, and each batch is computed by one of them. So the
numbers are the same, bit by bit on the same kind of CPU or GPU.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.core.config import Config
from trainer.core.tf_config import Cluster
from trainer.training.assembly import Assembly
from trainer.training.data import random_state
from trainer.training.data.feeding import Split
from trainer.training.data.source_split import SourceSplit
from trainer.training.data.validation_feed import Batches, ValidationFeed, validation_feed
from trainer.training.hardware.collective import WorkersSum
from trainer.training.model import samples
from trainer.training.model.first_look import call, untouched
from trainer.training.nests import Nest
from trainer.training.results.prediction_files import Field, Outputs

_WORD = np.dtype("uint32")  # Outputs travel as words, so that a sum with zeros leaves every bit as it is.


class Predictions:
    """Computes them batch by batch."""

    def __init__(self, config: Config, cluster: Cluster | None, parts: Assembly, data: Split) -> None:
        """Nothing is computed yet; `data` are the examples."""
        self._config, self._model, self._data = config, parts.model, data
        self._preprocess = parts.experiment.preprocess
        self._workers, self._worker = (cluster.workers, cluster.index) if cluster else (1, 0)
        self._workers_sum = WorkersSum(parts.strategy, parts.strategy.num_replicas_in_sync // self._workers)
        self.fields = _fields(parts.look.outputs)
        self._sizes = [int(np.prod(field.shape)) * np.dtype(field.dtype).itemsize for field in self.fields]
        self._batch = min(samples.at_once(max(sum(self._sizes), data.bytes_per_example)), data.examples)
        self.batches = -(-data.examples // self._batch)
        self._seeds = [one for one in parts.model.non_trainable_variables if random_state.is_seed(one)]
        self._bases = random_state.layer_bases(config.seed, len(self._seeds))
        self._feed: ValidationFeed | None = None  # None: the examples are in memory, and may not be there twice.
        if isinstance(data, SourceSplit):
            mine = Batches(size=self._batch, examples=data.examples, first=self._worker, apart=self._workers)
            self._feed = validation_feed(config, data, mine, None, parts.readers)
        self._build(jit_compile=parts.trainer.jit_compile)

    def _build(self, *, jit_compile: bool) -> None:
        self.jit_compile = jit_compile
        self._compiled, self._compiled_feed = (
            tf.function(function, autograph=False, jit_compile=jit_compile or None)
            for function in (self._outputs, self._outputs_of_feed)
        )

    def without_xla(self) -> None:
        """From now on computes them as plain TensorFlow."""
        self._build(jit_compile=False)

    def rounds(self) -> Iterator[tuple[int, Outputs]]:
        """The outputs of all examples in turn, on every worker, with how many batches are done."""
        own = self._own()
        for first in range(0, self.batches, self._workers):
            yield min(first + self._workers, self.batches), self._gathered(first, next(own, None))

    def _own(self) -> Iterator[Outputs]:
        """The outputs of this worker's batches in turn; of a source the next ones are read meanwhile."""
        if self._feed is None:
            for batch in range(self._worker, self.batches, self._workers):
                yield self._of_rows(batch)
            return
        for run in self._feed.calls():
            count = self._data.examples % self._batch if run.short else self._batch
            for batch in range(run.begin, run.end, self._workers):
                number = tf.constant(batch, tf.int64)
                yield [leaf.numpy() for leaf in self._compiled_feed(run.given, number, count=count)]

    def _of_rows(self, batch: int) -> Outputs:
        begin = batch * self._batch
        end = min(begin + self._batch, self._data.examples)
        x, y, _ = self._data.rows(begin, end)
        rows = tf.range(begin, end, dtype=tf.int64)
        return [leaf.numpy() for leaf in self._compiled(x, y, rows, tf.constant(batch, tf.int64))]

    def _outputs_of_feed(self, given: Any, batch: tf.Tensor, *, count: int) -> list[tf.Tensor]:
        assert self._feed  # noqa: S101
        x, y, _, rows = self._feed.take(given, batch, count)
        return self._outputs(x, y, rows, batch)

    def _outputs(self, x: Nest, y: Nest, rows: tf.Tensor, batch: tf.Tensor) -> list[tf.Tensor]:
        """A batch's, as numbers that NumPy knows."""
        x, _ = samples.prepared(self._preprocess, self._config.seed, x, y, rows)
        drawn = random_state.validation_seeds(self._bases, tf.constant(0, tf.int64), batch)
        pairs = [(one, tf.cast(value, one.dtype)) for one, value in zip(self._seeds, drawn, strict=True)]
        with untouched(self._model, pairs):
            outputs = keras.tree.flatten(call(self._model, x, training=False))
        return [tf.cast(leaf, field.dtype) for leaf, field in zip(outputs, self.fields, strict=True)]

    def _gathered(self, first: int, own: Outputs | None) -> Outputs:
        """The outputs of the batches from `first` on, one of each worker."""
        if self._workers == 1:
            return own or ()
        words = -(-self._batch * sum(self._sizes) // _WORD.itemsize)
        table = np.zeros([self._workers, words])
        if own is not None:
            content = b"".join(leaf.tobytes() for leaf in own).ljust(words * _WORD.itemsize, b"\0")
            table[self._worker] = np.frombuffer(content, _WORD)
        rows = self._workers_sum.of([table])[0].astype(_WORD)
        count = min(self._workers, self.batches - first)
        parts = [self._read(row.tobytes(), first + worker) for worker, row in enumerate(rows[:count])]
        return [np.concatenate(leaves) for leaves in zip(*parts, strict=True)]

    def _read(self, content: bytes, batch: int) -> list[npt.NDArray[Any]]:
        examples = min(self._batch, self._data.examples - batch * self._batch)
        leaves, at = [], 0
        for field, size in zip(self.fields, self._sizes, strict=True):
            end = at + examples * size
            leaves.append(np.frombuffer(content[at:end], field.dtype).reshape(examples, *field.shape))
            at = end
        return leaves


def _fields(outputs: Nest) -> list[Field]:
    """What the model gives for an example; a single output is called "output"."""
    fields = []
    for path, leaf in keras.tree.flatten_with_path(outputs):
        kind = leaf.dtype.as_numpy_dtype
        known = np.dtype(kind).kind in "biuf"  # NumPy's own; bfloat16 is none of them.
        name = "_".join(str(step) for step in path)
        name = name if name and not name[0].isdigit() else f"output{f'_{name}' * bool(name)}"
        fields.append(Field(name, tuple(leaf.shape[1:]), np.dtype(kind) if known else np.dtype("float32")))
    return fields
