"""ArrayRecord shards."""

import random
from pathlib import Path

import pytest
from array_record.python import array_record_module

from tests.sources.reading import check_source, parse
from tests.support.servers import BUCKET
from trainer.core.exit_codes import DataError, UsageError
from trainer.output.stores.opening import open_store
from trainer.sources import ArrayRecords, DamagedRecord

RECORDS = [random.Random(number).randbytes(100 + number) for number in range(300)]


def write(path: Path, records: list[bytes]) -> None:
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for data in records:
        writer.write(data)
    writer.close()


def test_shards(tmp_path: Path) -> None:
    write(tmp_path / "b.array_record", RECORDS[100:])
    write(tmp_path / "a.array_record", RECORDS[:100])
    write(tmp_path / "empty.array_record", [])
    check_source(ArrayRecords(tmp_path, parse), [parse(data) for data in RECORDS])


def test_a_damaged_record(tmp_path: Path) -> None:
    path = tmp_path / "a.array_record"
    write(path, RECORDS)
    content = bytearray(path.read_bytes())
    content[content.index(RECORDS[7][:50]) + 10] ^= 1
    path.write_bytes(content)
    source = ArrayRecords(path, parse)
    for indices in ([7], [3, 7, 5]):
        with pytest.raises(DamagedRecord, match=r"a\.array_record, record 7: Corrupted .*hash mismatch") as caught:
            source.__getitems__(indices)
        assert (caught.value.file, caught.value.offset) == (str(path), 7)
    assert source[3][1] == len(RECORDS[3])


@pytest.mark.parametrize("content", [b"", b"text" * 1000])
def test_what_is_no_shard(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.array_record").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.array_record is no whole ArrayRecord shard"):
        ArrayRecords(tmp_path, parse)


def test_a_shard_that_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.array_record"
    write(path, RECORDS)
    source = ArrayRecords(path, parse)
    write(path, RECORDS[1:])
    source._open = type(source._open)()  # As in another process.
    with pytest.raises(DataError, match="was changed since this run looked at it first"):
        source[0]


@pytest.mark.servers
def test_shards_in_a_bucket_are_refused(place: str) -> None:
    open_store(place).create("a.array_record", b"")
    with pytest.raises(UsageError, match=f"{BUCKET}/.*a.array_record: the package array_record reads no buckets"):
        ArrayRecords(place, parse)
