"""CSV files, read at random row by row, by side indexes of where their rows are."""

import csv
import functools
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

from trainer.core.exit_codes import DataError, UsageError
from trainer.sources import identity
from trainer.sources.files import each, find, read, read_many
from trainer.sources.files.finding import Address
from trainer.sources.formats.columns import Columns, Parse, Spec
from trainer.sources.formats.extras import needed
from trainer.sources.formats.row_groups import Group, RowGroups
from trainer.sources.indexes import csv_index
from trainer.sources.sequences import Rows, RowSource

NAMES = ("*.csv", "*.tsv")
CACHE_BYTES = 256 * 2**20
_SAMPLE_BYTES = 2**20  # Of the first file, by which types are told.
_MODULE = ("pyarrow.csv", "pyarrow")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\x28\xb5": "zstd", b"PK": "zip"}


class CsvRows(RowSource):
    """The rows of CSV files, as examples."""

    def __init__(
        self,
        where: Address | Sequence[Address],
        *,
        x: Spec = None,
        y: Spec = None,
        weight: Spec = None,
        parse: Parse | None = None,
        delimiter: str = ",",
        quote: str = '"',
        header: Sequence[str] = (),
        types: Mapping[str, str] | None = None,
        names: Iterable[str] = NAMES,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Finds the files, and reads or makes their indexes.

        Args:
          where: a file, a folder, a pattern, or several of these; local paths, gs:// or s3://. Rows end with a line
            feed; UTF-8.
          x: a column; a list of columns of numbers, which become one vector; or a dict or tuple of these.
          y: likewise.
          weight: likewise, or None.
          parse: instead of these, a function that makes an example of a row, a dict by the columns' names.
          delimiter: between two fields.
          quote: around fields that hold a delimiter or a line break, doubled where it is meant; "" for none.
          header: the columns' names where the files do not begin with them.
          types: Arrow's names of columns' types, {"price": "float32"}; the others are told by the first rows.
          names: patterns of the files' names in a folder.
          cache_bytes: of memory for decoded rows.

        Raises:
          DataError: there are none, one is damaged, or lacks a column.
          UsageError: pyarrow is not installed, a file is compressed, or a type is none.
        """
        needed(*_MODULE)
        self._columns = Columns(x, y, weight, parse)
        self._delimiter, self._quote = delimiter, quote
        self._files = find(where, names=names)
        for file, start in zip(
            self._files, read_many([(file, 0, min(2, file.size)) for file in self._files]), strict=True
        ):
            if start in _COMPRESSED:
                raise UsageError(
                    f"{file.url} is compressed ({_COMPRESSED[start]}), and no row of it can be read without all before "
                    "it; uncompress it, or write Parquet"
                )
        self._indexes = csv_index.load(self._files, quote=quote, header=not header)
        self._rows = Rows([len(index.rows) for index in self._indexes])
        self._cache = RowGroups(cache_bytes)
        headers = each(lambda number: list(header) or self._header(number), range(len(self._files)))
        self._headers = headers if len({tuple(one) for one in headers}) > 1 else headers[:1] * len(headers)
        for file, one in zip(self._files, headers, strict=True):
            self._columns.check(one, file.url)
        self._names = self._columns.needed or headers[0]
        self._types = self._told_types(types or {})

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        """The examples of several rows, read together.

        Raises:
          DamagedRecord: a row has too many or too few fields, or a value that is not of its column's type.
        """
        places = [self._rows.find(index) for index in indices]
        groups = [(file, *self._indexes[file].rows.find(row)) for file, row in places]
        ahead = {(file, number): b"" for file, number, _ in groups if not self._cache.has((file, number))}
        contents = read_many([(self._files[file], *self._indexes[file].place(number)) for file, number in ahead])
        ahead = dict(zip(ahead, contents, strict=True))
        found = []
        for (file, row), (_, number, inner) in zip(places, groups, strict=True):
            decode = functools.partial(self._decoded, file, number, ahead.get((file, number)))
            group = self._cache.get((file, number), decode)
            found.append(self._columns.example(group, inner, self._names, self._files[file].url, row))
        return found

    def identity(self) -> dict[str, Any]:
        """What a resume compares."""
        return identity.of_files(
            "CsvRows",
            self._files,
            len(self),
            **self._columns.described(),
            types={name: str(kind) for name, kind in self._types.items()},
        )

    def _header(self, number: int) -> list[str]:
        file, size = self._files[number], self._indexes[number].header_bytes
        text = read(file, 0, size).decode("utf-8-sig", "replace").lstrip("\r\n")
        rows = list(csv.reader(io.StringIO(text), delimiter=self._delimiter, **self._quoting()))
        if not rows:
            raise DataError(f"{file.url} is empty; expected a line with the columns' names")
        return rows[0]

    def _quoting(self) -> dict[str, Any]:
        return {"quotechar": self._quote} if self._quote else {"quoting": csv.QUOTE_NONE}

    def _told_types(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Each column's type of Arrow's; not all have a name from which they could be made again."""
        pyarrow = needed("pyarrow", "pyarrow")
        try:
            types = {name: pyarrow.type_for_alias(kind) for name, kind in given.items()}
        except ValueError as error:
            raise UsageError(f"types={dict(given)}: {error}; expected names as int64, float32, string") from None
        if len(self) == 0:
            return types
        number = next(number for number, index in enumerate(self._indexes) if len(index.rows))
        file, index = self._files[number], self._indexes[number]
        sample, group = b"", 0
        while len(sample) < _SAMPLE_BYTES and group < index.rows.count:
            sample += read(file, *index.place(group))
            group += 1
        try:
            schema = self._parsed(number, sample, types).schema
        except (ValueError, KeyError):  # A row of the sample is damaged: types are told by those that are not.
            schema = self._parsed(number, self._readable(number, sample, types), types).schema
        told = {name: schema.field(name).type for name in self._names}
        # One damaged value among the first rows would make text of a column of numbers.
        text = {name for name, kind in told.items() if pyarrow.types.is_string(kind) or pyarrow.types.is_null(kind)}
        return {
            name: pyarrow.float64() if name in text & self._columns.numbers else kind for name, kind in told.items()
        }

    def _readable(self, file: int, data: bytes, types: Mapping[str, Any]) -> bytes:
        rows = [row for row in self._split(data) if not isinstance(self._tried(file, row, types), str)]
        return b"".join(rows)

    def _decoded(self, file: int, number: int, data: bytes | None) -> Group:
        index = self._indexes[file]
        data = data or read(self._files[file], *index.place(number))
        try:
            table = self._parsed(file, data, self._types)
            if table.num_rows == index.rows.length(number):
                return self._columns.group(table)
        except (ValueError, KeyError):  # Arrow's errors are among these.
            pass
        return self._one_by_one(file, data, self._types)

    def _one_by_one(self, file: int, data: bytes, types: Mapping[str, Any]) -> Group:
        """A group with a row that cannot be read: which, and why; the others are as good as ever."""
        pyarrow = needed("pyarrow", "pyarrow")
        rows = [self._tried(file, row, types) for row in self._split(data)]
        nothing = pyarrow.table({name: pyarrow.nulls(1, types[name]) for name in self._names})
        group = self._columns.group(pyarrow.concat_tables([nothing if isinstance(row, str) else row for row in rows]))
        return Group(
            group.columns, {**group.damaged, **{at: row for at, row in enumerate(rows) if isinstance(row, str)}}
        )

    def _tried(self, file: int, row: bytes, types: Mapping[str, Any]) -> Any:
        """A table of one row, or why there is none."""
        try:
            table = self._parsed(file, row, types)
        except (ValueError, KeyError) as error:
            return str(error).partition("\n")[0]
        return table if table.num_rows == 1 else f"it is {table.num_rows} rows"

    def _split(self, data: bytes) -> list[bytes]:
        ends = csv_index.line_ends(data, self._quote)
        rows = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return [row for row in rows if row.strip(b"\r\n")]

    def _parsed(self, file: int, data: bytes, types: Mapping[str, Any]) -> Any:
        parser = needed(*_MODULE)
        return parser.read_csv(
            io.BytesIO(data),
            parser.ReadOptions(use_threads=False, block_size=max(len(data) + 1, 2), column_names=self._headers[file]),
            parser.ParseOptions(
                delimiter=self._delimiter,
                quote_char=self._quote or False,
                newlines_in_values=True,
            ),
            parser.ConvertOptions(column_types=dict(types), include_columns=list(self._names)),
        )
