"""TFRecord shards, written by TensorFlow and by hand, and their side indexes."""

import dataclasses
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sources.conftest import Upload
from tests.sources.reading import check_source, parse
from tests.support.paths import ROOT
from trainer.core.exit_codes import DataError, UsageError
from trainer.core.tfrecord import record
from trainer.sources import DamagedRecord, TFRecords, example, files
from trainer.sources.files import find, together
from trainer.sources.indexes import record_index, side_index

RECORDS = [b"%d " % number * (number % 50) for number in range(200)]
in_any_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def write_shards(folder: Path, *, shards: int = 3) -> list[Any]:
    for shard in range(shards):
        data = b"".join(map(record, RECORDS[shard::shards]))
        (folder / f"train-{shard}-of-{shards}.tfrecord").write_bytes(data)
    (folder / "dataset_info.json").write_text("{}")
    return [parse(data) for shard in range(shards) for data in RECORDS[shard::shards]]


def test_shards(tmp_path: Path, placed: Upload) -> None:
    expected = write_shards(tmp_path)
    check_source(TFRecords(placed(tmp_path), parse), expected)


def test_the_index_is_made_once_and_kept_beside_the_data(
    tmp_path: Path, placed: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = write_shards(tmp_path)
    where = placed(tmp_path)
    check_source(TFRecords(where, parse), expected)
    made = list[str]()

    def build(file: files.File) -> side_index.Arrays:
        made.append(file.url)
        return {}

    monkeypatch.setattr(record_index, "KIND", dataclasses.replace(record_index.KIND, build=build))
    for path in side_index.cache_folder().iterdir():
        path.unlink()
    check_source(TFRecords(where, parse), expected)
    assert made == []


def test_workers_that_start_together_share_the_making_of_indexes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.tfrecord").write_bytes(record(b"x" * number))
    monkeypatch.setattr(together, "AT_ONCE", 1)
    made = list[str]()

    def build(file: files.File) -> side_index.Arrays:
        made.append(file.url)
        time.sleep(0.01)
        return record_index.build(file)

    monkeypatch.setattr(record_index, "KIND", dataclasses.replace(record_index.KIND, build=build))
    workers = [threading.Thread(target=TFRecords, args=(tmp_path, parse)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(made) == {file.url for file in find(tmp_path)}
    assert len(made) < 60  # 80, if each made all of them.


def test_a_stale_index_is_made_anew(tmp_path: Path, placed: Upload) -> None:
    write_shards(tmp_path, shards=1)
    TFRecords(placed(tmp_path), parse)
    shard = tmp_path / "train-0-of-1.tfrecord"
    shard.write_bytes(b"".join(map(record, [*RECORDS[1:], RECORDS[0]])))  # Of the same size.
    check_source(TFRecords(placed(tmp_path), parse), [parse(data) for data in [*RECORDS[1:], RECORDS[0]]])


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_index_is_made_anew(tmp_path: Path, damage: str) -> None:
    expected = write_shards(tmp_path, shards=1)
    TFRecords(tmp_path, parse)
    (index,) = tmp_path.glob(".*.index")
    content = bytearray(index.read_bytes())
    for at in range(0, len(content), 97):
        new = bytearray(content)
        if damage == "flipped":
            new[at] ^= 1 + at % 255
        index.write_bytes(bytes({"cut": new[:at], "empty": b"", "other": os.urandom(at), "flipped": new}[damage]))
        assert len(TFRecords(tmp_path, parse)) == len(expected)
        assert index.read_bytes() == content


def test_where_nobody_may_write_the_index_is_kept_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = write_shards(tmp_path, shards=1)
    write = side_index._write

    def refused(path: Path, content: bytes, *, make: bool = False) -> bool:
        return path.parent != tmp_path and write(path, content, make=make)  # As on a volume that is mounted read-only.

    monkeypatch.setattr(side_index, "_write", refused)
    check_source(TFRecords(tmp_path, parse), expected)
    assert list(tmp_path.glob(".*.index")) == []
    assert len(list(side_index.cache_folder().iterdir())) == 1
    read = list[int]()
    monkeypatch.setattr(record_index, "read", lambda *asked: read.append(asked[2]))
    assert len(TFRecords(tmp_path, parse)) == len(expected)
    assert read == []


def test_indexes_do_not_travel_between_processes(tmp_path: Path) -> None:
    (tmp_path / "a.tfrecord").write_bytes(b"".join(record(bytes(number % 7)) for number in range(20_000)))
    source = TFRecords(tmp_path, parse)
    assert len(pickle.dumps(source)) < 2000


def test_records_of_one_size_have_an_index_of_no_size(tmp_path: Path) -> None:
    (tmp_path / "a.tfrecord").write_bytes(record(b"x" * 100) * 5000)
    source = TFRecords(tmp_path, parse)
    (index,) = tmp_path.glob(".*.index")
    assert index.stat().st_size < 1000
    assert len(source) == 5000
    assert source[4999][1] == 100


def test_large_records_are_not_read_for_their_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [100_000, 10, 5_000_000, 0, *[90_000] * 200]
    (tmp_path / "a.tfrecord").write_bytes(b"".join(record(bytes(size)) for size in sizes))
    asked = list[int]()

    def counted(file: files.File, start: int, size: int) -> bytes:
        asked.append(size)
        return files.read(file, start, size)

    monkeypatch.setattr(record_index, "read", counted)
    monkeypatch.setattr(record_index, "BLOCK", 2**16)
    assert [int(y) for _, y in TFRecords(tmp_path, parse).__getitems__(range(len(sizes)))] == sizes
    assert sum(asked) < sum(sizes) / 50


@in_any_folder
@given(st.lists(st.integers(0, 300), max_size=40), st.integers(12, 100), st.integers(0, 200))
def test_the_index_of_any_shard(tmp_path: Path, sizes: list[int], block: int, large: int) -> None:
    records = [random.Random(size).randbytes(size) for size in sizes]
    path = tmp_path / "any.tfrecord"
    path.write_bytes(b"".join(map(record, records)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_index, "BLOCK", block)
        patch.setattr(record_index, "_LARGE_LOCAL", large)
        index = record_index.RecordIndex(record_index.build(*find(path)))
    whole = path.read_bytes()
    places = zip(*index.places(np.arange(len(index))), strict=True)
    assert [whole[start : start + size] for start, size in places] == list(map(record, records))


@in_any_folder
@given(st.binary(max_size=200))
def test_any_bytes_are_a_shard_or_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.tfrecord"
    path.write_bytes(content)
    if content:
        with pytest.raises((DamagedRecord, UsageError), match=r"any\.tfrecord"):
            TFRecords(path, parse)
    else:
        assert len(TFRecords(path, parse)) == 0


@in_any_folder
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_byte_that_is_not_as_it_was_written_is_found(tmp_path: Path, at: int, change: int) -> None:
    whole = bytearray(b"".join(map(record, RECORDS[:20])))
    at %= len(whole)
    whole[at] ^= change
    path = tmp_path / "any.tfrecord"
    path.write_bytes(whole)
    starts = [sum(len(record(data)) for data in RECORDS[:number]) for number in range(20)]
    damaged = max(number for number, start in enumerate(starts) if start <= at)
    try:
        source = TFRecords(path, parse)
    except DamagedRecord as error:  # Its framing: nothing behind it can be found.
        assert error.offset == starts[damaged]  # noqa: PT017
        return
    for number in range(20):
        if number == damaged:
            with pytest.raises(DamagedRecord, match=rf"any\.tfrecord, byte {starts[damaged]}: .*checksum") as caught:
                source[number]
            assert (caught.value.file, caught.value.offset) == (str(path), starts[damaged])
        else:
            assert source[number][1] == len(RECORDS[number])


def test_a_shard_that_is_cut(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1)
    path = tmp_path / "train-0-of-1.tfrecord"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DamagedRecord, match="the file ends 5 bytes before the record does"):
        TFRecords(tmp_path, parse)
    path.write_bytes(b"".join(map(record, RECORDS[:3])) + b"\1\2\3")
    with pytest.raises(DamagedRecord, match="the file ends within a record's head"):
        TFRecords(tmp_path, parse)


def test_what_a_parser_finds_damaged(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1)

    def picky(data: bytes) -> Any:
        if len(data) == 20:
            raise DataError("twenty bytes are no example")
        return parse(data)

    source = TFRecords(tmp_path, picky)
    number = next(number for number, data in enumerate(RECORDS) if len(data) == 20)
    with pytest.raises(DamagedRecord, match=r"tfrecord, byte \d+: twenty bytes are no example"):
        source[number]


WRITTEN_BY_TENSORFLOW = """
import sys, tensorflow as tf
for compression in ("", "GZIP", "ZLIB"):
    with tf.io.TFRecordWriter(f"{sys.argv[1]}/tf{compression}.tfrecord", compression) as writer:
        for number in range(5):
            feature = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[bytes([number] * 4), b""])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number, -number])),
                "vector": tf.train.Feature(float_list=tf.train.FloatList(value=[number / 3, 1e9])),
                "nothing": tf.train.Feature(),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
"""


def test_what_tensorflow_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITTEN_BY_TENSORFLOW, str(tmp_path)], check=True, cwd=ROOT)
    source = TFRecords(tmp_path / "tf.tfrecord", example)
    for number in range(5):
        features = source[number]
        assert features["image"] == [bytes([number] * 4), b""]
        assert features["label"].tolist() == [number, -number]
        assert features["label"].dtype == np.int64
        assert features["vector"].tolist() == np.array([number / 3, 1e9], np.float32).tolist()
        assert features["vector"].dtype == np.float32
        assert features["nothing"] == []
    assert len(source) == 5
    for compression in ("GZIP", "ZLIB"):
        with pytest.raises(UsageError, match=rf"is compressed \({compression}\), and no record of it can be read"):
            TFRecords(tmp_path / f"tf{compression}.tfrecord", example)


def test_a_record_that_is_no_example(tmp_path: Path) -> None:
    (tmp_path / "a.tfrecord").write_bytes(record(b"\xff" * 20))
    with pytest.raises(DamagedRecord, match=r"byte 0: the record holds no tf\.train\.Example"):
        TFRecords(tmp_path, example)[0]


WITHIN_MEMORY = """
import resource, sys
import numpy as np
from trainer.sources import TFRecords
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
source = TFRecords(sys.argv[1], lambda record: (np.frombuffer(record, np.uint8), np.int64(len(record))))
rows = np.random.default_rng(1).permutation(len(source))
assert all(y == 1_000_000 + i % 2 for i, (x, y) in zip(rows, source.__getitems__(rows[:50])))
print(len(source), peak() - before)
"""


def test_a_shard_larger_than_memory_takes_little_of_it(tmp_path: Path) -> None:
    """20 GB, sparse on the disk: of a record's data nothing is written, and they are zeros."""
    kinds = [record(bytes(1_000_000)), record(bytes(1_000_001))]
    with (tmp_path / "a.tfrecord").open("wb") as file:
        for number in range(20_000):
            framed = kinds[number % 2]
            file.write(framed[:12])
            file.seek(len(framed) - 16, os.SEEK_CUR)
            file.write(framed[-4:])
    command = [sys.executable, "-c", WITHIN_MEMORY, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    count, more = map(int, done.stdout.split())
    assert count == 20_000
    assert more < 250e6
