"""Reads examples of a source by their row, and stacks them: in threads of the training process, or beside it.

This is imported by processes that read, so it imports no TensorFlow.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.core.exit_codes import DataError, TrainerError, UsageError
from trainer.sources.errors import DamagedRecord
from trainer.training.data.masks import check_unmasked
from trainer.training.data.order import Rows
from trainer.training.nests import Nest, leaves_of, packed

_ALIGNED = 64  # Bytes; what TensorFlow's kernels ask of memory that it did not allocate itself.
_EXAMPLE = "expected pairs (x, y) or triples (x, y, sample_weight)"

Leaves = list[npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """Some examples as they were read: each leaf of x, y and weight stacked, and what was passed over for them."""

    leaves: Leaves
    damaged: dict[int, str]  # Rows that cannot be read, and why; other rows stand in their place.


class ExampleReader:
    """Gives examples that are all built like the first one."""

    def __init__(self, source: Any, name: str, *, may_skip: int, floatx: str) -> None:
        """Reads the first example.

        Args:
          source: with `len()` and `[row]`, and `__getitems__(rows)`, `stacked(rows)` and `decode(example,
            seed)` if it likes.
          name: of the split.
          may_skip: damaged records that may be passed over.
          floatx: the type of floating-point numbers.
        """
        self._source, self._name, self._may_skip, self._floatx = source, name, may_skip, floatx
        self._count = len(source)
        self._many = getattr(source, "__getitems__", None)
        self._decode = getattr(source, "decode", None)
        self._stacked = None if self._decode else _own_stacked(source)
        self._template = self._parts(self._one(0, 0, {}), 0)
        self._shapes = [self._number(leaf) for leaf in leaves_of(self._template, self._template)]

    def _number(self, leaf: Any) -> npt.NDArray[Any]:
        """A leaf of the first example.

        Raises:
          UsageError: it can be made no number without a loss. Text and objects are refused where arrays are, too.
        """
        check_unmasked(leaf, f"{self._name} data: a part of {type(self._source).__name__}[0]")
        array = np.asarray(leaf)
        if array.dtype.kind in "cmM" or array.dtype.type is np.void:
            raise UsageError(
                f"{self._name} data: {type(self._source).__name__}[0] gives {array.dtype}; expected whole or "
                "floating-point numbers: turn them into such in the source"
            )
        return array

    @property
    def bytes_per_example(self) -> int:
        """The size of one example, as it arrives on a device."""
        return max(1, sum(np.dtype(self._kept(leaf.dtype)).itemsize * leaf.size for leaf in self._shapes))

    @property
    def bytes_of_x(self) -> int:
        """The size of one example's inputs, as they were read."""
        return sum(np.asarray(leaf).nbytes for leaf in leaves_of(self._template[0], self._template[0]))

    @property
    def stacks(self) -> bool:
        """Whether the source gives several examples as one array."""
        return self._stacked is not None

    @property
    def reads_many(self) -> bool:
        """Whether the source reads several examples at once."""
        return self._many is not None or self.stacks

    def bytes_of(self, examples: int) -> int:
        """The memory that so many examples take, each leaf aligned."""
        return sum(_rounded(size) for *_, size in self._layout(examples))

    def buffers(self, examples: int, memory: npt.NDArray[np.uint8] | None = None) -> Leaves:
        """Room for so many examples: new and zero, or in `memory`, as it is. TensorFlow can use it where it is."""
        if memory is None:
            return [_aligned_zeros(shape, dtype, size) for shape, dtype, size in self._layout(examples)]
        leaves: Leaves = []
        at = 0
        for shape, dtype, size in self._layout(examples):
            leaves.append(np.ndarray(shape, dtype, memory, at))
            at += _rounded(size)
        return leaves

    def _layout(self, examples: int) -> list[tuple[list[int], np.dtype[Any], int]]:
        """Shape, type and bytes of each leaf of so many examples."""
        found = []
        for leaf in self._shapes:
            dtype = np.dtype(self._kept(leaf.dtype))
            found.append(([examples, *leaf.shape], dtype, examples * math.prod(leaf.shape) * dtype.itemsize))
        return found

    def nests(self, leaves: Sequence[Any]) -> tuple[Nest, Nest, Nest]:
        """Stacked leaves as x, y and weight."""
        return tuple(packed(part, remaining) for remaining in (iter(leaves),) for part in self._template)

    def read(self, rows: Rows, epoch_seed: int, out: Leaves | None = None) -> Piece:
        """Reads examples.

        Args:
          rows: their numbers.
          epoch_seed: the first half of the seeds that their choices in `decode` come from; the row is the second.
          out: where they are written to; None: into room of their own.

        Raises:
          DataError: an example is damaged and may not be passed over, or differs from the first.
        """
        out = self.buffers(len(rows)) if out is None else out
        damaged: dict[int, str] = {}
        if self._stacked is not None and len(rows) and self._take_stacked(rows, out):
            return Piece(leaves=out, damaged=damaged)
        read = list(self._examples(rows, epoch_seed, damaged))
        if not self._put_together([example for _, example in read], out):
            for place, (row, example) in enumerate(read):
                self._put(example, row, place, out)
        return Piece(leaves=out, damaged=damaged)

    def _take_stacked(self, rows: Rows, out: Leaves) -> bool:
        """What the source gives stacked already; False: something is wrong with it."""
        assert self._stacked is not None  # noqa: S101
        try:
            given = self._parts(self._stacked(rows), int(rows[0]))
        except DamagedRecord:
            if not self._may_skip:
                raise
            return False
        except (Exception, SystemExit) as error:
            raise self._told(error, f".stacked({rows[:3]} …)") from error.__cause__
        columns = list(leaves_of(given, self._template))
        for column in columns:
            check_unmasked(column, f"{self._name} data: a part of {type(self._source).__name__}.stacked")
        columns = [np.asarray(column) for column in columns]
        alike = [(len(rows), *first.shape, first.dtype) for first in self._shapes]
        if [(*column.shape, column.dtype) for column in columns] != alike:
            return False
        for column, room in zip(columns, out, strict=True):
            room[:] = column
        return True

    def _put(self, example: Any, row: int, place: int, out: Leaves) -> None:
        """Any example, looked at closely."""
        parts = self._parts(example, row)
        try:
            leaves = leaves_of(parts, self._template)
        except DataError as error:
            raise DataError(f"example {row} of the {self._name} data: {error}") from None
        for leaf, room, first in zip(leaves, out, self._shapes, strict=True):
            check_unmasked(leaf, f"a part of example {row} of the {self._name} data")
            array = np.asarray(leaf)
            if array.shape != first.shape or array.dtype != first.dtype:
                raise DataError(
                    f"example {row} of the {self._name} data has {array.dtype} {list(array.shape)} where the first "
                    f"has {first.dtype} {list(first.shape)}; all must be alike: pad or cut them in the source"
                )
            room[place] = array

    def _put_together(self, examples: list[Any], out: Leaves) -> bool:
        """Tuples of arrays and NumPy's numbers, as most are, in a few calls; False: these are others."""
        if {type(example) for example in examples} != {tuple} or {len(example) for example in examples} != {len(out)}:
            return False
        columns = list(zip(*examples, strict=True))
        for column, first, part in zip(columns, self._shapes, self._template, strict=False):
            if isinstance(part, dict | tuple | list) or not isinstance(column[0], np.ndarray | np.number):
                return False
            if first.dtype.kind not in "biuf" or isinstance(column[0], np.ma.MaskedArray):
                return False
            if {type(leaf) for leaf in column} != {type(column[0])}:
                return False
            if {(leaf.dtype, leaf.shape) for leaf in column} != {(first.dtype, first.shape)}:
                return False
        for column, room in zip(columns, out, strict=True):
            if isinstance(column[0], np.ndarray):
                np.stack(column, out=room)
            else:
                room[:] = column
        return True

    def _examples(self, rows: Rows, epoch_seed: int, damaged: dict[int, str]) -> Iterable[tuple[int, Any]]:
        numbers = [int(row) for row in rows]
        if self._many is not None:
            try:
                examples = list(self._many(numbers))
            except DamagedRecord:
                if not self._may_skip:
                    raise
            except (Exception, SystemExit) as error:
                raise self._told(error, f"__getitems__({numbers[:3]} …)") from error.__cause__
            else:
                if len(examples) != len(numbers):
                    raise UsageError(
                        f"{type(self._source).__name__}.__getitems__ gave {len(examples)} examples for {len(numbers)} "
                        "numbers; expected one for each"
                    )
                for row, example in zip(numbers, examples, strict=True):
                    yield row, self._decoded(row, example, epoch_seed, damaged)
                return
        for row in numbers:
            yield row, self._one(row, epoch_seed, damaged)

    def _decoded(self, row: int, example: Any, epoch_seed: int, damaged: dict[int, str]) -> Any:
        if self._decode is None:
            return example
        try:
            return self._decode(example, np.array([epoch_seed, row % 2**31], np.uint32))
        except DamagedRecord:
            if not self._may_skip:
                raise
        except (Exception, SystemExit) as error:
            raise self._told(error, f"[{row}]") from error.__cause__
        return self._one(row, epoch_seed, damaged)

    def _one(self, row: int, epoch_seed: int, damaged: dict[int, str]) -> Any:
        """An example; where it is damaged and may be passed over, the next that is not."""
        at = row
        while True:
            try:
                example = self._source[at]
                seed = np.array([epoch_seed, at % 2**31], np.uint32)
                return example if self._decode is None else self._decode(example, seed)
            except DamagedRecord as error:
                damaged[at] = str(error)
                if len(damaged) > self._may_skip or len(damaged) == self._count:
                    raise
                at = (at + 1) % self._count
            except (Exception, SystemExit) as error:
                raise self._told(error, f"[{at}]") from error.__cause__

    def _told(self, error: BaseException, call: str) -> BaseException:
        """What a source raised, with a word on where. That a thread of it exits is an error like any other."""
        if isinstance(error, TrainerError):
            return error
        if isinstance(error, IndexError | KeyError) and (left := len(self._source)) < self._count:
            return DataError(
                f"{type(self._source).__name__} of the {self._name} data has {left} examples now, and had "
                f"{self._count} at the start; a run's data must stay as they are"
            )
        if isinstance(error, SystemExit):
            error = RuntimeError(f"the source called sys.exit({error.code})")
        error.add_note(f"It was raised by {type(self._source).__name__}{call} of the {self._name} data.")
        return error

    def _parts(self, example: Any, row: int) -> tuple[Any, Any, Any]:
        if not isinstance(example, tuple | list) or len(example) not in (2, 3):
            given = f"a {type(example).__name__}" + (f" of {len(example)}" if isinstance(example, tuple | list) else "")
            raise UsageError(f"{self._name} data: {type(self._source).__name__}[{row}] gives {given}; {_EXAMPLE}")
        return (*example, None) if len(example) == 2 else tuple(example)

    def _kept(self, dtype: np.dtype[Any]) -> Any:
        """As Keras' `fit` hands numbers to a model: floating-point ones as `floatx`, everything else as it is."""
        return dtype.newbyteorder("=") if dtype.kind in "biuOUS" else self._floatx


def _rounded(size: int) -> int:
    return size + -size % _ALIGNED


def _aligned_zeros(shape: list[int], dtype: np.dtype[Any], size: int) -> npt.NDArray[Any]:
    if dtype.hasobject:
        return np.zeros(shape, dtype)
    room = np.zeros(size + _ALIGNED, np.uint8)
    return np.ndarray(shape, dtype, room, -room.ctypes.data % _ALIGNED)


def _own_stacked(source: Any) -> Any:
    """A source's `stacked`, unless a class below the one that has it reads in another way."""
    for kind in type(source).__mro__:
        if "stacked" in vars(kind):
            return source.stacked
        if {"__getitem__", "__getitems__"} & vars(kind).keys():
            return None
    return None
