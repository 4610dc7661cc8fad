"""An index beside the data that another program wrote is one as good as ours, or none: the rows are the file's own."""

import json
import pathlib
import tempfile
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.core import tfrecord
from trainer.sources.files import find
from trainer.sources.formats.csv_rows import CsvRows
from trainer.sources.formats.tfrecords import TFRecords
from trainer.sources.indexes import csv_index, record_index, side_index

NUMBERS = st.sampled_from([0, 1, 2, 5, 17, 21, 42, 2**31, 2**63, 2**64 - 1])
ARRAYS = st.dictionaries(
    st.sampled_from(["uniform", "starts", "rows", "header", "x"]),
    st.tuples(st.sampled_from(["<u8", "<u4", "<i8", "<f8", "|u1"]), st.lists(NUMBERS, max_size=6)),
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def forged(
    file: Any, kind: side_index.Kind, arrays: dict[str, tuple[str, list[int]]], header: dict[str, Any] | None = None
) -> bytes:
    """An index with a checksum that is right."""
    made = {
        name: np.asarray([number % 2**63 for number in numbers]).astype(dtype)
        for name, (dtype, numbers) in arrays.items()
    }
    content = side_index._content(made, file, kind)
    head, _, rest = content.partition(b"\n")[2].partition(b"\n")
    said = (
        json.loads(head)
        | {"crc32c": google_crc32c.value(b"".join(each.tobytes() for each in made.values()))}
        | (header or {})
    )
    return b"trainer-index 1\n" + json.dumps(said).encode() + b"\n" + rest


@settings(max_examples=200, deadline=None)
@given(arrays=ARRAYS, even=st.booleans())
def test_whatever_an_index_of_records_says(arrays: dict[str, tuple[str, list[int]]], even: bool) -> None:
    records = [b"x" * (5 if even else size) for size in (5, 6, 7)]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = pathlib.Path(folder) / "a.tfrecord"
        path.write_bytes(b"".join(tfrecord.record(record) for record in records))
        (file,) = find(str(path))
        pathlib.Path(side_index.place(file)).write_bytes(forged(file, record_index.KIND, arrays))
        source = TFRecords(str(path), lambda record: (record, 0))
        assert [record for record, _ in source.__getitems__(range(len(source)))] == records


@settings(max_examples=200, deadline=None)
@given(arrays=ARRAYS)
def test_whatever_an_index_of_rows_says(arrays: dict[str, tuple[str, list[int]]]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = pathlib.Path(folder) / "a.csv"
        path.write_text("a,b\n1,2\n3,4\n5,6\n")
        (file,) = find(str(path))
        pathlib.Path(side_index.place(file)).write_bytes(forged(file, csv_index.kind('"', True), arrays))
        source = CsvRows(str(path), x="a", y="b")
        assert [tuple(map(int, source[index])) for index in range(len(source))] == [(1, 2), (3, 4), (5, 6)]


@pytest.mark.parametrize(
    "header",
    [
        {"arrays": 5}, {"arrays": [["uniform", "<u8", -2]]}, {"arrays": [["uniform", "O", 2]]}, {"arrays": [[1]]},
        {"arrays": [["uniform", "<u8", 1e400]]}, {"arrays": [["uniform", "i4,i4", 2]]}, {"kind": None}, {"size": []},
    ],
)  # fmt: skip
def test_a_header_of_another_form_is_none(tmp_path: pathlib.Path, header: dict[str, Any]) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(tfrecord.record(b"x"))
    (file,) = find(str(path))
    place = pathlib.Path(side_index.place(file))
    for content in (forged(file, record_index.KIND, {}, header), b"trainer-index 1\n" + b"[" * 60_000 + b"\n"):
        place.write_bytes(content)
        assert len(TFRecords(str(path), lambda record: (record, 0))) == 1
        assert place.read_bytes() != content  # It was made anew.
