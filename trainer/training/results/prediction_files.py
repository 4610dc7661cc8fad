"""Files of a model's outputs, written part by part and there only once they are whole: .npy and .parquet."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from trainer.core import installing
from trainer.core.exit_codes import UsageError

Outputs = Sequence[npt.NDArray[Any]]  # Of some examples in the order of the data, an array for each output.


class Field(NamedTuple):
    """One output of a model."""

    name: str
    shape: tuple[int, ...]  # Of one example's.
    dtype: Any  # NumPy's.


class PredictionFile(Protocol):
    """A file that is being written; raises OSError where that cannot be."""

    def add(self, outputs: Outputs) -> None:
        """Adds the outputs of the next examples."""

    def close(self) -> None:
        """Brings it to the disk and gives it its name."""


def check(path: Path) -> None:
    """Refuses a kind of file that cannot be written here.

    Raises:
      UsageError: says what is missing.
    """
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UsageError(
            f"--to={path}: pyarrow is not installed, which writes .parquet; name a .npy file, or install it: "
            + installing.package("pyarrow")
        )


@contextlib.contextmanager
def writing(path: Path, fields: Sequence[Field], examples: int) -> Iterator[PredictionFile]:
    """A file that has its name once the block has ended well, and is not there if it has not.

    Raises:
      UsageError: the model has several outputs, and the file can hold one.
      OSError: it could not be written.
    """
    try:
        file = _create(path, fields, examples)
        yield file
        file.close()
    except BaseException:
        with contextlib.suppress(OSError):  # Its folder may be what cannot be made.
            _part(path).unlink(missing_ok=True)
        raise


def _create(path: Path, fields: Sequence[Field], examples: int) -> PredictionFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        return _Parquet(path, fields)
    if len(fields) != 1:
        names = ", ".join(field.name for field in fields)
        raise UsageError(f"--to={path} holds one array, and the model has the outputs {names}; name a .parquet file")
    return _Npy(path, fields[0], examples)


class _Npy:
    """A single array, [examples, …]."""

    def __init__(self, path: Path, field: Field, examples: int) -> None:
        self._path, self._part, self._at = path, _part(path), 0
        shape = (examples, *field.shape)
        create: Any = np.lib.format.open_memmap  # It has no types.
        self._array = create(self._part, mode="w+", dtype=field.dtype, shape=shape)
        with self._part.open("rb+") as file:  # A map finds out only when it is written that the disk is full: SIGBUS.
            os.posix_fallocate(file.fileno(), 0, self._part.stat().st_size)

    def add(self, outputs: Outputs) -> None:
        (values,) = outputs
        self._array[self._at : self._at + len(values)] = values
        self._at += len(values)

    def close(self) -> None:
        self._array.flush()
        _name(self._part, self._path)


class _Parquet:
    """A column for each output, a row for each example; what is more than a number a row is a list."""

    def __init__(self, path: Path, fields: Sequence[Field]) -> None:
        import pyarrow
        from pyarrow import parquet

        self._path, self._part, self._arrow = path, _part(path), pyarrow
        self._schema = pyarrow.schema(
            [
                pyarrow.field(field.name, self._kind(field), metadata={"shape": str(list(field.shape))})
                for field in fields
            ]
        )
        self._writer = parquet.ParquetWriter(self._part, self._schema)

    def add(self, outputs: Outputs) -> None:
        columns = [
            self._arrow.array(list(values.reshape(len(values), -1)), field.type)
            if self._arrow.types.is_fixed_size_list(field.type)
            else self._arrow.array(values, field.type)
            for values, field in zip(outputs, self._schema, strict=True)
        ]
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()
        _name(self._part, self._path)

    def _kind(self, field: Field) -> Any:
        kind = self._arrow.from_numpy_dtype(np.dtype(field.dtype))
        return self._arrow.list_(kind, int(np.prod(field.shape))) if field.shape else kind


def _part(path: Path) -> Path:
    """The name of a file that is not whole yet."""
    return path.with_name(f".{path.name}.part")


def _name(part: Path, path: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
