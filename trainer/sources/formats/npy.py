"""`.npy` files: mapped where they are local, read by ranges where they are in a bucket."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np

from trainer.core.exit_codes import DataError, UsageError
from trainer.sources import identity
from trainer.sources.files import File, each, find, read, read_many
from trainer.sources.files.finding import Address
from trainer.sources.formats.mapped import MappedRows
from trainer.sources.sequences import Numbers, Rows

Where = Any  # An address or a list of them, or a dict or tuple of these.

_READERS: dict[tuple[int, int], Callable[[io.BytesIO], tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_HEAD_BYTES = 4096  # A header is shorter, but for arrays of very many fields.


class NpyFiles:
    """Examples from `.npy` arrays whose first dimension counts them."""

    def __init__(self, x: Where, y: Where, weight: Where | None = None) -> None:
        """Finds the files and reads their headers.

        Args:
          x: a file, a folder of files, a pattern, or a list of these, whose arrays follow each other in the order of
            their names; local paths, gs:// or s3://. A dict or a tuple of these for a model with several inputs.
          y: likewise.
          weight: likewise, or None.

        Raises:
          DataError: a file is missing, cut, or no array, or they are not of one length or shape.
          UsageError: an array is of a kind that cannot be read row by row.
        """
        self._parts = [_nest(part) for part in (x, y, *(() if weight is None else (weight,)))]
        self._columns = [column for part in self._parts for column in _leaves(part)]
        first = self._columns[0]
        for column in self._columns:
            if len(column) != len(first):
                raise DataError(
                    f"{column.files[0].url} and what belongs to it hold {len(column)} rows, {first.files[0].url} "
                    f"{len(first)}: they must be of one data set, with one row an example each"
                )

    def __len__(self) -> int:
        return len(self._columns[0])

    def __getitem__(self, index: SupportsIndex) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        """Several examples, read together."""
        numbers = self._columns[0].rows.absolute(indices)
        ranges = [column.ranges(numbers) for column in self._columns]
        far = iter(read_many([one for some in ranges if some is not None for one in some]))
        rows = {
            id(column): column.mapped(numbers) if some is None else [column.row(next(far)) for _ in some]
            for column, some in zip(self._columns, ranges, strict=True)
        }
        return [
            tuple(_mapped(part, lambda column, at=at: rows[id(column)][at]) for part in self._parts)  # type: ignore[misc]
            for at in range(len(numbers))
        ]

    def stacked(self, indices: Iterable[SupportsIndex]) -> tuple[Any, ...]:
        """Several examples as one, each array with the examples in its first dimension: far less work than a list."""
        numbers = self._columns[0].rows.absolute(indices)
        ranges = [column.ranges(numbers) for column in self._columns]
        far = iter(read_many([one for some in ranges if some is not None for one in some]))
        arrays = {
            id(column): column.mapped(numbers) if some is None else column.joined([next(far) for _ in some])
            for column, some in zip(self._columns, ranges, strict=True)
        }
        return tuple(_mapped(part, lambda column: arrays[id(column)]) for part in self._parts)

    def identity(self) -> dict[str, Any]:
        """What a resume compares."""
        return identity.of_files("NpyFiles", [file for column in self._columns for file in column.files], len(self))


class _Column:
    """The arrays of one or several files, one after the other."""

    def __init__(self, where: Address | Sequence[Address]) -> None:
        self.files = find(where, names=("*.npy",))
        heads = each(_head, self.files)
        (self._shape, self._dtype), first = heads[0][1:3], self.files[0]
        for file, (_, shape, dtype, _) in zip(self.files, heads, strict=True):
            if (shape, dtype) != (self._shape, self._dtype):
                raise DataError(
                    f"{file.url} has rows of {dtype} {list(shape)}, {first.url} of {self._dtype} "
                    f"{list(self._shape)}: they must be alike"
                )
        self._starts = [start for *_, start in heads]
        self.rows = Rows([count for count, *_ in heads])
        self._row_bytes = self._dtype.itemsize * int(np.prod(self._shape, dtype=np.int64))
        self._maps: dict[int, MappedRows] | None = {} if all(file.is_local for file in self.files) else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is mapped: it is mapped again in the process that this goes to."""
        return {**self.__dict__, "_maps": None if self._maps is None else {}}

    def ranges(self, numbers: Numbers) -> list[tuple[File, int, int]] | None:
        """What is to be read for these rows; None where they are mapped."""
        if self._maps is not None:
            return None
        places = zip(*self.rows.find_all(numbers), strict=True)
        return [
            (self.files[file], self._starts[file] + int(row) * self._row_bytes, self._row_bytes) for file, row in places
        ]

    def row(self, data: bytes) -> Any:
        return np.frombuffer(data, self._dtype).reshape(self._shape)[()]

    def joined(self, rows: list[bytes]) -> Any:
        return np.frombuffer(b"".join(rows), self._dtype).reshape(len(rows), *self._shape)

    def mapped(self, numbers: Numbers) -> Any:
        if len(self.files) == 1:
            return self._map(0).take(numbers)
        found = np.empty((len(numbers), *self._shape), self._dtype)
        files, rows = self.rows.find_all(numbers)
        for file in np.unique(files).tolist():
            found[files == file] = self._map(file).take(rows[files == file])
        return found

    def _map(self, number: int) -> MappedRows:
        assert self._maps is not None  # noqa: S101
        if number not in self._maps:
            shape = (self.rows.length(number), *self._shape)
            self._maps[number] = MappedRows(self.files[number], self._starts[number], shape, self._dtype)
        return self._maps[number]


def _head(file: File) -> tuple[int, tuple[int, ...], np.dtype[Any], int]:
    """Rows, shape and type of a row, and where the rows begin."""
    for size in (_HEAD_BYTES, 2**20):
        stream = io.BytesIO(read(file, 0, min(size, file.size)))
        try:
            version: tuple[int, int] = np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]
            if version not in _READERS:
                raise ValueError(f"version {version} of the format is not known here")
            shape, by_columns, dtype = _READERS[version](stream)
            break
        except (ValueError, SyntaxError, EOFError) as error:
            failure = error
    else:
        raise DataError(f"{file.url} is no .npy file: {failure}")
    if dtype.hasobject:
        raise UsageError(f"{file.url} holds Python objects, which are not read: they could run any code; save numbers")
    if not shape:
        raise UsageError(f"{file.url} holds one value, not an array with a row an example")
    if by_columns and len(shape) > 1:
        raise UsageError(
            f"{file.url} is stored column by column, so that a row lies all over it; save it with "
            "np.save(…, np.ascontiguousarray(array))"
        )
    expected = stream.tell() + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if file.size != expected:
        raise DataError(
            f"{file.url} holds {file.size} bytes, its header ({dtype} {' × '.join(map(str, shape))}) asks for "
            f"{expected}: it was cut or damaged; get it again"
        )
    return shape[0], tuple(shape[1:]), dtype, stream.tell()


def _nest(where: Where) -> Any:
    if isinstance(where, Mapping):
        return {name: _nest(part) for name, part in where.items()}
    return tuple(_nest(part) for part in where) if isinstance(where, tuple) else _Column(where)


def _leaves(part: Any) -> list[_Column]:
    if isinstance(part, _Column):
        return [part]
    return [leaf for inner in (part.values() if isinstance(part, Mapping) else part) for leaf in _leaves(inner)]


def _mapped(part: Any, function: Callable[[_Column], Any]) -> Any:
    if isinstance(part, _Column):
        return function(part)
    if isinstance(part, Mapping):
        return {name: _mapped(inner, function) for name, inner in part.items()}
    return tuple(_mapped(inner, function) for inner in part)
