"""What a store does with objects, on a real S3 server and on an emulator of Google Cloud Storage."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.object_stores import opened
from tests.support.servers import BUCKET, toxiproxy
from tests.support.servers.refusing_proxy import refusing_proxy
from trainer.output import stores
from trainer.output.stores import gs, s3
from trainer.output.stores.errors import ConflictError, MissingError, TooLargeError, UnreachableError
from trainer.output.stores.store import PART_BYTES, Store, StoredObject

pytestmark = pytest.mark.servers

LARGE = s3.WHOLE_BYTES + PART_BYTES + 17


@pytest.fixture
def store(scheme: str, address: str, request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened(f"{scheme}://{BUCKET}/a path/{request.node.name}/", address) as store:
        yield store


def test_is_created_once_and_changed_only_from_the_version_known(store: Store) -> None:
    assert store.get("folder/object") is None
    version = store.create("folder/object", b"one")
    with pytest.raises(ConflictError):
        store.create("folder/object", b"another")
    found = store.get("folder/object")
    assert found == StoredObject(b"one", version)
    newer = store.swap("folder/object", b"two", version)
    with pytest.raises(ConflictError):
        store.swap("folder/object", b"three", version)
    newest = store.append("folder/object", b"two", b", and more", newer)
    with pytest.raises(ConflictError):
        store.append("folder/object", b"two", b", or less", newer)
    assert store.get("folder/object") == StoredObject(b"two, and more", newest)
    with pytest.raises(ConflictError):
        store.swap("folder/nothing", b"", version)
    assert list(store.keys("")) == ["folder/object"]


def test_what_lies_directly_below_is_listed_without_what_lies_deeper(store: Store) -> None:
    assert store.children() == ([], [])
    for key in ("one/result.json", "one/train/events", "two/x", "sweep.json"):
        store.create(key, b"{}")
    folders, objects = store.children()
    assert (sorted(folders), objects) == (["one", "two"], ["sweep.json"])


def test_an_object_that_changes_while_it_is_read(store: Store, tmp_path: Path) -> None:
    for letter in (b"a", b"b"):
        (tmp_path / letter.decode()).write_bytes(letter * 2 * PART_BYTES)
    store.upload("file", tmp_path / "a")
    parts = iter(store.stream("file"))
    assert next(parts) == b"a" * PART_BYTES
    store.upload("file", tmp_path / "b", replace=store.version("file"))
    with pytest.raises(UnreachableError, match="file was changed while it was read"):
        next(parts)


def test_appends_many_times(store: Store) -> None:
    data, version = b"0", store.create("log", b"0")
    for number in range(40):
        version = store.append("log", data, b" %d" % number, version)
        data += b" %d" % number
    assert store.get("log") == StoredObject(data, version)


@pytest.mark.parametrize("size", [0, 1000, 3 * PART_BYTES + 17, LARGE])
def test_files_of_any_size(store: Store, tmp_path: Path, size: int) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(os.urandom(size) + name.encode())
    assert store.version("file") is None
    with pytest.raises(ConflictError):
        store.upload("file", tmp_path / "one", replace="1")
    store.upload("file", tmp_path / "one")
    with pytest.raises(ConflictError):
        store.upload("file", tmp_path / "two")
    assert b"".join(store.stream("file")) == (tmp_path / "one").read_bytes()
    version = store.version("file")
    assert version is not None
    store.upload("file", tmp_path / "two", replace=version)
    with pytest.raises(ConflictError):
        store.upload("file", tmp_path / "one", replace=version)
    assert b"".join(store.stream("file")) == (tmp_path / "two").read_bytes()
    assert list(store.keys("")) == ["file"]


def test_an_empty_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store.upload("file", tmp_path / "file")
    assert b"".join(store.stream("file")) == b""


@pytest.mark.parametrize("size", [1000, LARGE])
def test_an_upload_that_another_overtakes(scheme: str, address: str, tmp_path: Path, size: int) -> None:
    """Whatever the moment at which another creates the object: one of the two is told, and its file is not there."""
    for name in ("slow", "quick"):
        (tmp_path / name).write_bytes(name.encode() * (size // 5))
    url = f"{scheme}://{BUCKET}/overtaken-{size}"
    with refusing_proxy(address) as (front, proxy), opened(url, front) as slow, opened(url, address) as quick:
        slow.upload("undisturbed", tmp_path / "slow")
        for moment in range(len(proxy.requests)):
            key, won = f"file-{moment}", list[str]()

            def overtake(_method: str, _path: str) -> None:
                if len(proxy.requests) == moment + 1:  # noqa: B023
                    with contextlib.suppress(ConflictError):
                        quick.upload(key, tmp_path / "quick")  # noqa: B023
                        won.append("quick")  # noqa: B023

            proxy.requests.clear()
            proxy.answer = overtake
            with contextlib.suppress(ConflictError):
                slow.upload(key, tmp_path / "slow")
                won.append("slow")
            assert len(won) == 1
            assert b"".join(quick.stream(key)) == (tmp_path / won[0]).read_bytes()
        assert won == (["slow"] if size == LARGE and scheme == "s3" else ["quick"])  # There it ends with clearing away.


def test_a_large_file_takes_as_long_as_it_takes(
    scheme: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is on a part of it."""
    (tmp_path / "file").write_bytes(os.urandom(LARGE))
    limit = 1.5
    monkeypatch.setattr(s3, "LARGE_SECONDS", limit)
    monkeypatch.setitem(gs.REQUEST_OPTIONS, "timeout", (limit, limit))
    with toxiproxy(address) as (front, toxics), opened(f"{scheme}://{BUCKET}/slow", front) as store:
        for stream in ("upstream", "downstream"):
            toxics.add("bandwidth", stream=stream, rate=8000)  # KB/s.
        start = time.monotonic()
        store.upload("file", tmp_path / "file")
        assert time.monotonic() - start > limit
        start = time.monotonic()
        assert b"".join(store.stream("file")) == (tmp_path / "file").read_bytes()
        assert time.monotonic() - start > limit


def test_lists_and_deletes(store: Store) -> None:
    for key in ("a/1", "a/2", "ab", "b/1"):
        store.create(key, b"x")
    assert sorted(store.keys("a/")) == ["a/1", "a/2"]
    assert sorted(store.keys("a")) == ["a/1", "a/2", "ab"]
    assert sorted(store.keys("")) == ["a/1", "a/2", "ab", "b/1"]
    assert list(store.keys("c/")) == []
    store.delete("a/1")
    store.delete("a/1")
    assert sorted(store.keys("a/")) == ["a/2"]
    with pytest.raises(MissingError):
        list(store.stream("a/1"))


def test_what_is_larger_than_anything_that_is_read_whole_is_not_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores.store, "MOST_BYTES", 1000)
    store.create("fits", bytes(1000))
    store.create("too large", bytes(1001))
    found = store.get("fits")
    assert found
    assert len(found.data) == 1000
    with pytest.raises(TooLargeError, match="too large is 1001 bytes large, expected at most 1000"):
        store.get("too large")
