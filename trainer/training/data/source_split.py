"""Data that is read while it is trained on: a source, which has a length and gives an example by its row."""

import pickle
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.core.exit_codes import DataError, UsageError
from trainer.training.data.arrays import Arrays, check_numbers, digest
from trainer.training.data.example_reader import ExampleReader, Leaves
from trainer.training.data.order import Rows
from trainer.training.explaining import explained
from trainer.training.nests import Nest

_HEAD = 48  # Examples that are looked at before the first step.


def is_source(split: Any) -> bool:
    """Whether what `load_data` returned for a split is a source, and no pair or triple of arrays."""
    if isinstance(split, dict | str | bytes) or (isinstance(split, tuple | list) and len(split) in (2, 3)):
        return False
    return hasattr(split, "__len__") and hasattr(split, "__getitem__")


class SourceSplit:
    """One split whose examples are read when they are needed."""

    def __init__(self, source: Any, name: str, *, may_skip: int = 0) -> None:
        """Reads the first examples, which say what all must look like.

        Args:
          source: with `len()` and `[row]`; see docs/data.md for what else it may have.
          name: of the split.
          may_skip: damaged records that may be passed over.

        Raises:
          UsageError: it is no source, or holds what a model cannot be trained on.
          DataError: it is empty, or its first examples differ from each other.
        """
        self.name, self._source = name, source
        self.check_labels: Callable[[Nest, Rows], None] | None = None  # Set once the model's losses are known.
        with explained(f"the source of the {name} data"):
            self.examples = len(source)
            if not self.examples:
                raise DataError(f"load_data's {name} data holds no examples; give None for no validation data")
            self.reader = ExampleReader(source, name, may_skip=may_skip, floatx=keras.config.floatx())
            head = self.reader.nests(self.reader.read(np.arange(min(_HEAD, self.examples)), 0).leaves)
        self.known = Arrays(head[:2] if head[2] is None else head, name)  # Checks types and numbers.

    @property
    def bytes_per_example(self) -> int:
        """The size of one example's x."""
        return self.reader.bytes_of_x

    def head(self, count: int) -> tuple[Nest, Nest, Nest]:
        """The first examples, as they will arrive on a device; not more than were read at the start."""
        return self.known.head(count)

    def rows(self, begin: int, end: int) -> tuple[Nest, Nest, Nest]:
        """Some of the examples, likewise, read now.

        Raises:
          DataError: one cannot be read, or no model can take it.
        """
        numbers = np.arange(begin, end)
        leaves = self.reader.read(numbers, 0).leaves
        self.check(leaves, numbers)
        return self.reader.nests([tf.constant(leaf) for leaf in leaves])

    @property
    def at_hand(self) -> int:
        """How many examples were read at the start."""
        return self.known.examples

    @property
    def y(self) -> Nest:
        """The labels of the first examples."""
        return self.known.y

    def identity(self) -> dict[str, Any]:
        """What tells this data from other: what the source says of itself, and its length."""
        said = getattr(self._source, "identity", None)
        if said is not None and (known := said()) is not None:
            return {"examples": self.examples, **known}
        return {"examples": self.examples, "first examples": digest([self.known])}

    def check(self, leaves: Leaves, rows: Rows) -> None:
        """Refuses numbers and labels that cannot be trained on.

        Raises:
          DataError: names the example.
        """
        for leaf in leaves:
            check_numbers(f"load_data's {self.name} data", leaf, rows)
        if self.check_labels:
            self.check_labels(self.reader.nests(leaves)[1], rows)

    def pickled_reader(self) -> bytes:
        """What reads it, for a process beside this one.

        Raises:
          UsageError: the source cannot be sent there.
        """
        try:
            return pickle.dumps(self.reader)
        except Exception as error:
            raise UsageError(
                f"--reader_processes cannot send the {self.name} data's source to a process ({error}); let its class "
                "be of a module, and open files when they are first read"
            ) from None
