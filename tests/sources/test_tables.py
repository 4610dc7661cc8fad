"""Rows of CSV and Parquet files, on this disk and in buckets."""

import csv
import io
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sources.conftest import Upload
from tests.sources.reading import check_source
from trainer.core.exit_codes import DataError, UsageError
from trainer.sources import CsvRows, DamagedRecord, ParquetRows
from trainer.sources.files import find
from trainer.sources.indexes import csv_index

COUNT = 500
RANDOM = random.Random(1)
ROWS: list[dict[str, Any]] = [
    {
        "id": number,
        "a": round(RANDOM.random(), 6),
        "b": round(RANDOM.random(), 6),
        "label": number % 3,
        "text": f"t{number}",
    }
    for number in range(COUNT)
]
EXPECTED = [(np.array([row["a"], row["b"]], np.float32), np.int64(row["label"])) for row in ROWS]


def write_parquet(folder: Path) -> None:
    for number, begin in enumerate((0, 200)):
        table = pa.Table.from_pylist(ROWS[begin : begin + 200] if begin == 0 else ROWS[200:])
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=64, write_page_checksum=True)


def write_csv(path: Path, rows: list[dict[str, Any]], **options: Any) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)


def test_parquet(tmp_path: Path, placed: Upload) -> None:
    write_parquet(tmp_path)
    check_source(ParquetRows(placed(tmp_path), x=["a", "b"], y="label"), EXPECTED)


def test_csv(tmp_path: Path, placed: Upload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_index, "GROUP_BYTES", 500)
    write_csv(tmp_path / "a.csv", ROWS[:200])
    write_csv(tmp_path / "b.csv", ROWS[200:], lineterminator="\n")
    check_source(CsvRows(placed(tmp_path), x=["a", "b"], y="label"), EXPECTED)


@pytest.mark.parametrize("reader", [ParquetRows, CsvRows])
def test_all_kinds_of_columns(tmp_path: Path, reader: Any) -> None:
    write_csv(tmp_path / "a.csv", ROWS)
    write_parquet(tmp_path)
    source = reader(tmp_path, x={"one": "a", "both": ("id", ["label", "id"])}, y=("text",), weight="b")
    (x, y, weight) = source[17]
    assert x["one"] == np.float32(ROWS[17]["a"])
    assert x["both"][0] == 17
    assert x["both"][1].tolist() == [17 % 3, 17]
    assert x["both"][1].dtype == np.int64
    assert y == ("t17",)
    assert weight == np.float32(ROWS[17]["b"])
    parsed = reader(tmp_path, parse=lambda row: (row["text"], row["label"]))
    assert parsed[17] == ("t17", 17 % 3)


def test_lists_in_parquet_are_arrays(tmp_path: Path) -> None:
    vectors = RANDOM.sample(range(1000), 40)
    table = pa.table(
        {
            "list": pa.array([vectors[n : n + 4] for n in range(0, 40, 4)]),
            "fixed": pa.array([vectors[n : n + 4] for n in range(0, 40, 4)], pa.list_(pa.float64(), 4)),
            "dictionary": pa.array(["x", "y"] * 5).dictionary_encode(),
            "y": range(10),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    source = ParquetRows(tmp_path, x={"list": "list", "fixed": "fixed", "word": "dictionary"}, y="y")
    for number in range(10):
        x, y = source[number]
        assert x["list"].tolist() == x["fixed"].tolist() == vectors[4 * number : 4 * number + 4]
        assert x["fixed"].dtype == np.float32
        assert x["word"] == "xy"[number % 2]
        assert y == number


@pytest.mark.parametrize("reader", [ParquetRows, CsvRows])
def test_a_row_that_lacks_a_value(tmp_path: Path, reader: Any) -> None:
    rows = [{**row} for row in ROWS]
    rows[7]["a"] = None
    write_csv(tmp_path / "a.csv", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    source = reader(tmp_path, x=["a", "b"], y="label")
    name = "parquet" if reader is ParquetRows else "csv"
    with pytest.raises(DamagedRecord, match=rf"a\.{name}, row 7: column 'a' has no value") as caught:
        source[7]
    assert (caught.value.file, caught.value.offset) == (str(tmp_path / f"a.{name}"), 7)
    assert len(source.__getitems__([6, 8])) == 2
    assert len(reader(tmp_path, x="b", y="label")) == COUNT
    reader(tmp_path, x="b", y="label")[7]


@pytest.mark.parametrize(
    ("line", "words"),
    [("1,2", "Expected 5 columns, got 2"), ("1,x,0.5,1,t", "CSV conversion error to double: invalid value 'x'")],
)
def test_a_damaged_row_of_csv(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "a.csv"
    write_csv(path, ROWS, lineterminator="\n")
    lines = path.read_text().splitlines()
    lines[1 + 40] = line
    path.write_text("\n".join(lines))
    source = CsvRows(path, x=["a", "b"], y="label")
    assert len(source) == COUNT
    with pytest.raises(DamagedRecord, match=rf"a\.csv, row 40: .*{words}"):
        source[40]
    assert [int(y) for _, y in source.__getitems__([39, 41])] == [0, 2]


def test_a_damaged_row_group(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    path = tmp_path / "0.parquet"
    place = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    content = bytearray(path.read_bytes())
    content[place + 100] ^= 0xFF
    path.write_bytes(content)
    source = ParquetRows(tmp_path, x=["a", "b"], y="label")
    with pytest.raises(DamagedRecord, match=r"0\.parquet, row 64: the row group that begins with it cannot be decoded"):
        source[100]
    source.__getitems__([0, 63, 128, 300])


def test_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("text" * 100)
    with pytest.raises(DataError, match=r"a\.parquet is no whole Parquet file"):
        ParquetRows(tmp_path, x="a", y="b")
    write_csv(tmp_path / "a.csv", ROWS)
    with pytest.raises(DataError, match=r"a\.csv lacks the column\(s\) c; it has id, a, b, label, text"):
        CsvRows(tmp_path, x=["a", "c"], y="label")
    with pytest.raises(UsageError, match="give the columns of an example"):
        CsvRows(tmp_path)
    with pytest.raises(UsageError, match="expected names as int64"):
        CsvRows(tmp_path, x="a", y="b", types={"a": "number"})
    (tmp_path / "b.csv").write_bytes(b"\x1f\x8b\x08 and so on")
    with pytest.raises(UsageError, match=r"b\.csv is compressed \(gzip\)"):
        CsvRows(tmp_path, x="a", y="label")


def test_text_cannot_become_a_vector(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    with pytest.raises(DataError, match=r"column 'text' holds no numbers, so that \['a', 'text'\] cannot become one"):
        ParquetRows(tmp_path, x=["a", "text"], y="label")[0]


def test_csv_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes('\ufeffname\tsize\r\n\r\n5" disk\t1\r\nb\t2'.encode())
    source = CsvRows(tmp_path, x="name", y="size", delimiter="\t", quote="")
    assert [source[0], source[1]] == [('5" disk', 1), ("b", 2)]
    assert len(source) == 2
    (tmp_path / "b.csv").write_text("1,2\n3,4\n")
    bare = CsvRows(tmp_path / "b.csv", x="p", y="q", header=("p", "q"), types={"p": "float32", "q": "int8"})
    assert bare[1] == (3.0, 4)
    assert (bare[1][0].dtype, bare[1][1].dtype) == (np.float32, np.int8)
    (tmp_path / "c.csv").write_text('a,b\n"never closed,2\n3,4\n')
    with pytest.raises(DamagedRecord, match=r"c\.csv, byte \d+: the file ends within quotes"):
        CsvRows(tmp_path / "c.csv", x="a", y="b")


def test_files_without_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n")
    assert len(CsvRows(tmp_path, x="a", y="b")) == 0
    (tmp_path / "b.csv").write_text("a,b\n\n1,2")
    assert CsvRows(tmp_path, x="a", y="b")[0] == (1, 2)
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    assert len(ParquetRows(tmp_path, x="a", y="a")) == 0
    (tmp_path / "c.csv").write_text("")
    with pytest.raises(DataError, match=r"c\.csv is empty; expected a line with the columns' names"):
        CsvRows(tmp_path, x="a", y="b")


def test_memory_for_decoded_rows_is_bounded(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    source = ParquetRows(tmp_path, x=["a", "b"], y="label", cache_bytes=5000)
    check_source(source, EXPECTED)
    assert source._cache._bytes <= 5000
    assert 1 <= len(source._cache._kept) <= 4


in_any_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80)
cells = st.text(st.sampled_from('ab,"\n\r;é '), max_size=6)


@in_any_folder
@given(
    st.lists(st.tuples(cells, cells), min_size=1, max_size=30),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 60),
    st.integers(1, 200),
    st.booleans(),
)
def test_the_index_of_any_csv(
    tmp_path: Path, rows: list[tuple[str, str]], ending: str, block: int, group: int, closed: bool
) -> None:
    """Its groups, read by Python's own reader, are the rows, and none is cut."""
    lines = []
    for row in [("x", "y"), *rows]:
        written = io.StringIO()
        csv.writer(written, lineterminator=ending, quoting=csv.QUOTE_ALL).writerow(row)
        lines.append(written.getvalue() + ending * (len(row[0]) % 2))  # Empty lines in between.
    path = tmp_path / "any.csv"
    path.write_bytes(("".join(lines) if closed else "".join(lines).rstrip("\r\n")).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_index, "BLOCK", block)
        patch.setattr(csv_index, "GROUP_BYTES", group)
        index = csv_index.RowIndex(csv_index.build(*find(path), quote='"', header=True))
    content = path.read_bytes()
    found = []
    for number in range(index.rows.count):
        start, size = index.place(number)
        part = list(csv.reader(io.StringIO(content[start : start + size].decode(), newline="")))
        some = [tuple(row) for row in part if row]
        assert len(some) == index.rows.length(number)
        found += some
    assert found == rows
    assert len(index.rows) == len(rows)


@pytest.mark.parametrize("reader", [ParquetRows, CsvRows])
def test_columns_that_are_objects_in_memory(tmp_path: Path, reader: Any) -> None:
    """A whole number that is missing, dates, and times with a zone: neither NumPy nor a name of Arrow's has them."""
    lines = ["n,day,when", "2,2020-01-01,2020-01-01T00:00:00Z", ",2020-01-02,2020-01-02T00:00:00Z"]
    (tmp_path / "a.csv").write_text("".join(f"{line}\n" for line in lines))
    pq.write_table(pa_csv.read_csv(tmp_path / "a.csv"), tmp_path / "a.parquet")
    source = reader(tmp_path, parse=dict)
    first, second = source[0], source[1]
    assert (first["n"], second["n"]) == (2, None)
    assert str(second["day"]) == "2020-01-02"
    assert str(second["when"]) == "2020-01-02 00:00:00+00:00"
    assert pickle.loads(pickle.dumps(source))[0] == first  # noqa: S301
