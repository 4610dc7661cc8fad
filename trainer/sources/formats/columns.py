"""Examples made of columns: which columns an example is made of, and what becomes of their values."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.core.exit_codes import DataError, UsageError
from trainer.sources.errors import DamagedRecord, parsed
from trainer.sources.formats.row_groups import Group

Spec = Any  # A column's name, a list of names, or a dict or tuple of these.
Parse = Callable[[dict[str, Any]], Any]


@dataclasses.dataclass(frozen=True)
class Columns:
    """What an example is made of."""

    x: Spec = None
    y: Spec = None
    weight: Spec = None
    parse: Parse | None = None

    def __post_init__(self) -> None:
        """Refuses what says neither or both.

        Raises:
          UsageError: names the two ways.
        """
        if (self.parse is None) == (self.x is None):
            raise UsageError("give the columns of an example, x=… and y=…, or a function parse(row) that makes it")

    @property
    def needed(self) -> list[str] | None:
        """The columns that are read; None: all."""
        if self.parse is not None:
            return None
        return list(dict.fromkeys(name for leaf in self._leaves() for name in _names(leaf)))

    @property
    def numbers(self) -> set[str]:
        """The columns that must be numbers: those that become a vector with others."""
        return (
            {name for leaf in self._leaves() if not isinstance(leaf, str) for name in leaf}
            if self.x is not None
            else set()
        )

    def group(self, table: Any) -> Group:
        """A decoded table of Arrow's, as examples are made of it."""
        if self.parse is not None:
            return Group([_values(table.column(name)) for name in table.column_names], {})
        arrays, damaged = {}, dict[int, str]()
        for name in self.needed or []:
            arrays[name], missing = _array(table.column(name))
            for row in np.flatnonzero(missing).tolist():
                damaged.setdefault(row, f"column {name!r} has no value")
        return Group([_leaf(leaf, arrays) for leaf in self._leaves()], damaged)

    def example(self, group: Group, row: int, names: Sequence[str], file: str, number: int) -> Any:
        """The example of a row.

        Args:
          group: which `group` has made.
          row: its place in the group.
          names: of all columns that were read.
          file: for the error.
          number: the row's number in the file, from 0, for the error.

        Raises:
          DamagedRecord: the row cannot be used.
        """
        if row in group.damaged:
            raise DamagedRecord(file, number, group.damaged[row], unit="row")
        values = iter([column[row] for column in group.columns])
        if self.parse is None:
            return tuple(_nest(part, values) for part in self._parts())
        return parsed(self.parse, dict(zip(names, values, strict=True)), file, number, unit="row")

    def check(self, names: Sequence[str], file: str) -> None:
        """Refuses columns that a file does not have.

        Raises:
          DataError: names them.
        """
        lacking = [name for name in self.needed or [] if name not in names]
        if lacking:
            raise DataError(f"{file} lacks the column(s) {', '.join(lacking)}; it has {', '.join(names)}")

    def described(self) -> dict[str, Any]:
        """The settings, for the data's identity."""
        return {"columns": self.needed} if self.parse is None else {}

    def _parts(self) -> list[Spec]:
        return [self.x, self.y, *(() if self.weight is None else (self.weight,))]

    def _leaves(self) -> list[Spec]:
        return [leaf for part in self._parts() for leaf in _flat(part)]


def _flat(part: Spec) -> Iterable[Spec]:
    if isinstance(part, Mapping):
        return [leaf for inner in part.values() for leaf in _flat(inner)]
    return [leaf for inner in part for leaf in _flat(inner)] if isinstance(part, tuple) else [part]


def _nest(part: Spec, values: Any) -> Any:
    if isinstance(part, Mapping):
        return {name: _nest(inner, values) for name, inner in part.items()}
    return tuple(_nest(inner, values) for inner in part) if isinstance(part, tuple) else next(values)


def _names(leaf: Spec) -> list[str]:
    return [leaf] if isinstance(leaf, str) else list(leaf)


def _leaf(leaf: Spec, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if isinstance(leaf, str):
        return arrays[leaf]
    for name in leaf:
        if arrays[name].dtype == np.object_:
            raise DataError(
                f"column {name!r} holds no numbers, so that {list(leaf)} cannot become one vector; use parse=…"
            )
    vector: npt.NDArray[Any] = np.stack([arrays[name] for name in leaf], axis=1)
    return vector.astype(np.float32) if vector.dtype == np.float64 else vector  # Of float32 and int64 together.


def _array(column: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """A column's values, and which of them are missing; floating-point numbers as float32, as Keras takes them."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    missing = column.is_null().to_numpy() if column.null_count else np.zeros(len(column), np.bool_)
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        values = column.fill_null(0 if not pa.types.is_boolean(kind) else False).to_numpy()
        return values.astype(np.float32) if values.dtype == np.float64 else values, missing
    if (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ) and not missing.any():
        flat = column.combine_chunks().flatten()
        if not flat.null_count and len(column) and len(flat) % len(column) == 0:
            lengths = (
                column.combine_chunks().value_lengths().to_numpy() if not pa.types.is_fixed_size_list(kind) else None
            )
            if lengths is None or (lengths == lengths[0]).all():
                inner = flat.to_numpy(zero_copy_only=False).reshape(len(column), -1)
                return inner.astype(np.float32) if inner.dtype == np.float64 else inner, missing
    return _objects(column), missing


class _Bytes:
    """Bytes or text as Arrow holds them; a row becomes Python's when it is asked for.

    As objects they would lie about the heaps of all threads that decode, and keep these from shrinking.
    """

    def __init__(self, column: Any) -> None:
        self._column, self.nbytes = column, int(column.nbytes)

    def __getitem__(self, row: int) -> Any:
        return self._column[row].as_py()


def _values(column: Any) -> Any:
    import pyarrow as pa

    kind = column.type
    late = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    late = late or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return _Bytes(column) if late else _objects(column)


def _objects(column: Any) -> npt.NDArray[Any]:
    """A column's values as Python's, or as NumPy's where they are numbers and none is missing."""
    import pyarrow as pa

    kind = column.type
    if not column.null_count and (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        return np.asarray(column.to_numpy())
    found = np.empty(len(column), np.object_)
    for row, value in enumerate(column.to_pylist()):
        found[row] = value
    return found
