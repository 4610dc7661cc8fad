"""What is kept on the disk of what comes from a bucket."""

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.object_stores import Server
from tests.support.servers import BUCKET
from tests.support.servers.refusing_proxy import refusing_proxy
from trainer.core.exit_codes import UsageError
from trainer.output.stores.opening import open_store
from trainer.sources import files
from trainer.sources.files.disk_cache import BLOCK, DiskCache
from trainer.sources.files.file import File

CONTENT = random.Random(1).randbytes(5 * BLOCK + 77)
FILE = File("s3://bucket/file", len(CONTENT), "1")


def block(number: int) -> bytes:
    return CONTENT[number * BLOCK : (number + 1) * BLOCK]


def kept_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("??/*"))


def test_blocks_are_those_of_a_version(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 10**7)
    cache.put(FILE, 0, block(0))
    cache.put(FILE, 5, block(5))
    assert DiskCache(tmp_path, 10**7).get(FILE, 0) == block(0)
    assert cache.get(FILE, 5) == block(5)
    for start, end in ((0, 1), (4095, 4097), (5000, 30_000), (BLOCK - 1, BLOCK)):
        assert cache.get(FILE, 0, start, end) == block(0)[start:end]
    assert cache.get(FILE, 1) is None
    assert cache.get(File(FILE.url, FILE.size, "2"), 0) is None
    assert cache.get(File("s3://bucket/other", FILE.size, "1"), 0) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "flipped checksum", "another"])
def test_a_broken_file_is_never_believed(tmp_path: Path, damage: str) -> None:
    cache = DiskCache(tmp_path, 10**7)
    cache.put(FILE, 0, block(0))
    cache.put(FILE, 1, block(1))
    one, other = tmp_path.glob("??/*")
    content = bytearray(one.read_bytes())
    content[50 if damage == "flipped checksum" else len(content) // 2] ^= 1
    whole = one.read_bytes()
    one.write_bytes(bytes({"cut": whole[:-1], "another": other.read_bytes()}.get(damage, content)))
    found = [cache.get(FILE, 0), cache.get(FILE, 1)]
    assert sorted(found, key=str) == sorted([found[0] or found[1], None], key=str)
    assert found[0] in (None, block(0))
    assert found[1] in (None, block(1))
    assert not one.exists()


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, int(3.5 * BLOCK))
    for number in range(3):
        cache.put(FILE, number, block(number))
        path = max(tmp_path.glob("??/*"), key=lambda path: path.stat().st_mtime_ns)
        os.utime(path, (time.time() - 1000 + number,) * 2)
    assert cache.get(FILE, 0) == block(0)  # Used again.
    cache.put(FILE, 3, block(3))
    assert cache.get(FILE, 1) is None
    assert cache.get(FILE, 0) == block(0)
    assert cache.get(FILE, 3) == block(3)


def fill(folder: Path, seed: int) -> None:
    cache = DiskCache(folder, 20 * BLOCK)
    for number in random.Random(seed).choices(range(200), k=80):
        file = File(f"s3://bucket/{number}", BLOCK, "1")
        data = cache.get(file, 0)
        assert data in (None, bytes([number]) * BLOCK)
        cache.put(file, 0, bytes([number]) * BLOCK)


def test_processes_share_a_folder_and_keep_its_bound(tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("spawn").Process(target=fill, args=(tmp_path, seed)) for seed in range(3)]
    for process in processes:
        process.start()
    cache = DiskCache(tmp_path, 20 * BLOCK)
    while any(process.is_alive() for process in processes):
        with cache._bytes_file():  # Nobody writes meanwhile.
            assert kept_bytes(tmp_path) <= 20 * BLOCK
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert 10 * BLOCK < kept_bytes(tmp_path) <= 20 * BLOCK


@pytest.mark.parametrize("lost", [b"", b"nonsense", b"0" * 31])
def test_the_count_of_bytes_is_found_again(tmp_path: Path, lost: bytes) -> None:
    cache = DiskCache(tmp_path, 4 * BLOCK)
    for number in range(3):
        cache.put(FILE, number, block(number))
    (tmp_path / "bytes").write_bytes(lost)
    for number in range(100):
        cache.put(File(f"s3://bucket/{number}", BLOCK, "1"), 0, bytes(BLOCK))
    limit = 4 if lost != b"0" * 31 else 8  # Wrong, but a number: found out at the next clearing.
    assert kept_bytes(tmp_path) <= limit * BLOCK


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"the data cache .*file cannot be written to"):
        files.use_cache(tmp_path / "file", 10**6)


@pytest.mark.servers
def test_what_was_read_is_not_asked_for_again(
    server: Server, place: str, reach: Callable[[str], None], tmp_path: Path
) -> None:
    version = open_store(place).create("file", CONTENT)
    assert version
    with refusing_proxy(server.address) as (front, proxy):
        reach(front)
        (file,) = files.find(f"{place}/file")
        files.use_cache(tmp_path / "cache", 10**7)
        chosen = random.Random(2)
        for turn in range(2):
            proxy.requests.clear()
            for _ in range(30):
                ranges = [(file, chosen.randrange(len(CONTENT) - 5000), chosen.randrange(5000)) for _ in range(5)]
                assert files.read_many(ranges) == [CONTENT[start : start + size] for _, start, size in ranges]
            asked = [path for _, path, _ in proxy.requests if BUCKET in path]
            assert 0 < len(asked) <= 6 if turn == 0 else asked == []
        for path in (tmp_path / "cache").glob("??/*"):
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        assert files.read(file) == CONTENT


@pytest.mark.servers
def test_a_disk_that_is_full_costs_only_the_cache(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(place).create("file", CONTENT)
    (file,) = files.find(f"{place}/file")
    files.use_cache(tmp_path, 10**7)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert files.read(file) == CONTENT
    assert [path.name for path in tmp_path.glob("??/*") if not path.name.endswith(".new")] == []
