"""Which files there are, and ranges of them: on a local disk, on a real S3 server, on an emulator of Google's."""

import errno
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.object_stores import Server
from tests.support.paths import ROOT
from tests.support.servers import SECRET, toxiproxy
from tests.support.servers.refusing_proxy import S3_ERROR, refusing_proxy
from trainer.core.exit_codes import DataError, ExitCode, UsageError
from trainer.output.stores import gs, s3
from trainer.output.stores.opening import open_store
from trainer.sources import files
from trainer.sources.errors import DamagedRecord, StoreAwayError
from trainer.sources.files import bucket, local, retries
from trainer.sources.files.file import File

servers = pytest.mark.servers
CONTENT = random.Random(1).randbytes(300_000)


def write_tree(folder: Path) -> Path:
    for name in ("b.bin", "a.bin", "_SUCCESS", ".hidden", "notes.txt", "deep/c.bin", "deep/er/d.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(CONTENT[: len(name)])
    return folder


def names(found: list[File], root: str) -> list[str]:
    return [file.url.removeprefix(f"{root}/") for file in found]


def check_finding(root: str) -> None:
    assert names(files.find(root), root) == ["a.bin", "b.bin", "notes.txt"]
    assert names(files.find(root, names=("*.bin", "*.npy")), root) == ["a.bin", "b.bin"]
    assert names(files.find(f"{root}/"), root) == ["a.bin", "b.bin", "notes.txt"]
    assert names(files.find(f"{root}/*.bin"), root) == ["a.bin", "b.bin"]
    assert names(files.find(f"{root}/[!a].bin"), root) == ["b.bin"]
    assert names(files.find(f"{root}/?.b*"), root) == ["a.bin", "b.bin"]
    assert names(files.find(f"{root}/*/*.bin"), root) == ["deep/c.bin"]
    assert names(files.find(f"{root}/**/*.bin"), root) == ["a.bin", "b.bin", "deep/c.bin", "deep/er/d.bin"]
    assert names(files.find([f"{root}/notes.txt", f"{root}/a.bin"]), root) == ["notes.txt", "a.bin"]
    assert sorted(entry.key for entry in files.entries(f"{root}/deep")) == ["c.bin", "er/d.bin"]
    assert [files.look(f"{root}/{name}") for name in ("no.bin", "deep", "*.bin")] == [None, None, None]
    (file,) = files.find(f"{root}/notes.txt")
    assert files.look(f"{root}/notes.txt") == file
    assert file.size == len("notes.txt")
    assert file.version
    for nothing in (f"{root}/no.bin", f"{root}/*.npy", f"{root}/nowhere/*"):
        with pytest.raises(DataError, match=r"no file|no such file") as caught:
            files.find(nothing)
        assert nothing in str(caught.value) or "nowhere" in str(caught.value)
    with pytest.raises(DataError, match=r"no file in .* is called \*.npy"):
        files.find(root, names=("*.npy",))


def test_finds_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_finding(str(write_tree(tmp_path)))
    monkeypatch.chdir(tmp_path)
    assert [file.name for file in files.find("*.bin")] == ["a.bin", "b.bin"]
    assert [file.name for file in files.find(Path("a.bin"))] == ["a.bin"]


@servers
def test_finds_objects(tmp_path: Path, upload: Callable[[Path], str]) -> None:
    check_finding(upload(write_tree(tmp_path)))


@servers
@pytest.mark.parametrize("name", ["a b#c.bin", "50%.bin", "what?.bin", "äöü.bin", "a+b&c=d.bin"])
def test_names_that_an_address_gives_a_meaning(place: str, name: str) -> None:
    open_store(place).create(name, name.encode())
    for address in (place, f"{place}/*"):
        (file,) = files.find(address)
        assert file.name == name
        assert files.read(file) == name.encode()


def check_reading(file: File) -> None:
    assert files.read(file) == CONTENT
    assert files.read(file, 10, 0) == b""
    chosen = random.Random(2)
    ranges = [(start := chosen.randrange(file.size), chosen.randrange(file.size - start)) for _ in range(50)]
    ranges += [(file.size - 1, 1), (0, 1), (5, 1), (5, 1), (0, file.size)]
    assert files.read_many([(file, start, size) for start, size in ranges]) == [
        CONTENT[start : start + size] for start, size in ranges
    ]
    assert pickle.loads(pickle.dumps(file)) == file  # noqa: S301


def test_reads_local_ranges(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    (file,) = files.find(tmp_path / "file")
    check_reading(file)


@servers
def test_reads_ranges_of_objects(
    tmp_path: Path, upload: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.sources.files.reading.PART_BYTES", 70_000)
    (tmp_path / "file").write_bytes(CONTENT)
    (file,) = files.find(f"{upload(tmp_path)}/file")
    check_reading(file)


def test_keeps_few_local_files_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MOST_OPEN", 8)
    for number in range(40):
        (tmp_path / str(number)).write_bytes(b"%d" % number)
    before = len(os.listdir("/proc/self/fd"))
    for file in files.find(tmp_path):
        assert files.read(file) == file.name.encode()
    assert len(os.listdir("/proc/self/fd")) - before <= 8


def test_a_call_that_reads_many_files_keeps_few_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MOST_OPEN", 8)
    for number in range(100):
        (tmp_path / f"{number:03}").write_bytes(b"%d" % number)
    found, most = files.find(tmp_path), [0]
    opened = local._opened

    def counted(file: File) -> Any:
        most[0] = max(most[0], len(os.listdir("/proc/self/fd")))
        return opened(file)

    monkeypatch.setattr(local, "_opened", counted)
    before = len(os.listdir("/proc/self/fd"))
    assert local.read_many([(file, 0, file.size) for file in found]) == [b"%d" % number for number in range(100)]
    assert most[0] - before <= 8 + 16 + 1


@pytest.mark.parametrize("name", ["run[1]", "what?", "a*"])
def test_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.csv").write_bytes(b"1")
    (tmp_path / "run1").write_bytes(b"what the pattern would find")
    for address in (f"{tmp_path}/{name}", f"{tmp_path}/{name}/*.csv", f"{tmp_path}/{name}/a.csv"):
        assert [file.url for file in files.find(address)] == [f"{tmp_path}/{name}/a.csv"]


def test_a_mounted_file_system_that_is_away_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mount can be made to fail here: the call that would fail does."""
    (tmp_path / "file").write_bytes(CONTENT)
    (file,) = files.find(tmp_path / "file")
    read, failures = os.pread, [errno.EIO, errno.ESTALE, errno.ENOTCONN]

    def away(descriptor: int, size: int, start: int) -> bytes:
        if failures:
            raise OSError(failures[0] if len(failures) > 3 else failures.pop(), "away")
        return read(descriptor, size, start)

    monkeypatch.setattr(os, "pread", away)
    assert files.read(file, 1000, 5000) == CONTENT[1000:6000]
    failures += [errno.EIO] * 4
    with pytest.raises(StoreAwayError, match=r"not reachable for \d+ s: .*file: away$"):
        files.read(file)


def test_a_local_file_that_is_changed_or_gone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    (file,) = files.find(path)
    path.write_bytes(b"longer")
    with pytest.raises(DataError, match="file was changed since this run looked at it first"):
        files.read(file)
    path.unlink()
    with pytest.raises(DataError, match="file: there is no such file"):
        files.read(file)


@servers
def test_an_object_that_is_changed_or_gone(place: str) -> None:
    store = open_store(place)
    version = store.create("file", b"one")
    (file,) = files.find(f"{place}/file")
    assert files.read(file) == b"one"
    store.swap("file", b"two", version)
    with pytest.raises(DataError, match=f"{place}/file was changed since this run looked at it first"):
        files.read(file)
    store.delete("file")
    with pytest.raises(DataError, match=f"{place}/file: there is no such object"):
        files.read(file)


def test_no_right_to_read_a_local_file(tmp_path: Path) -> None:
    code = (
        "import os, sys; from trainer.sources import files; (file,) = files.find(sys.argv[1]);"
        "os.getuid() or os.setuid(65534); files.read(file)"  # Root may read everything.
    )
    path = tmp_path / "file"
    path.write_bytes(b"one")
    path.chmod(0)
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"UsageError: no right to read {path}: the process runs as user" in done.stderr


@pytest.mark.parametrize("address", ["http://host/file", "gs://", "gs:///key", "s3://user:secret@bucket/key"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError, match="is no address of data; expected a path, gs://bucket/path") as caught:
        files.find(address)
    assert "secret" not in str(caught.value)


@servers
def test_no_such_bucket(server: Server, reach: Callable[[str], None]) -> None:
    reach(server.address)
    for address in (f"{server.scheme}://no-such-bucket/file", f"{server.scheme}://no-such-bucket/folder/*"):
        with pytest.raises(UsageError, match=f"{server.scheme}://no-such-bucket: there is no such bucket"):
            files.find(address)
    with pytest.raises(UsageError, match="there is no such bucket"):
        files.read(File(f"{server.scheme}://no-such-bucket/file", 3, ""))


@servers
@pytest.mark.parametrize(("name", "value"), [("AWS_SECRET_ACCESS_KEY", "x"), ("AWS_ACCESS_KEY_ID", "nobody")])
def test_wrong_credentials_of_s3(
    server: Server, place: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    if server.scheme != "s3":
        pytest.skip("the emulator of Google's takes any credentials")
    open_store(place).create("file", b"one")
    monkeypatch.setenv(name, value)
    bucket.forget_clients()
    for ask in (
        lambda: files.find(f"{place}/file"),
        lambda: files.find(f"{place}/*"),
        lambda: files.read(File(f"{place}/file", 3, "")),
    ):
        with pytest.raises(UsageError, match="wrong credentials for s3://") as caught:
            ask()
        assert SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_google_credentials_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    with pytest.raises(UsageError, match=r"wrong credentials for gs://bucket.*: File .*key.json was not found"):
        files.find("gs://bucket/file")


@servers
def test_nobody_has_a_right_to_read(server: Server, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server's own answer, to one who shows no credentials."""
    if server.scheme != "s3":
        pytest.skip("the emulator of Google's allows everything")
    open_store(place).create("file", b"one")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    bucket.forget_clients()
    for address in (f"{place}/file", f"{place}/*"):
        with pytest.raises(UsageError, match=r"no right to read s3://.*: AccessDenied: Access Denied"):
            files.find(address)


@servers
def test_no_right_to_read(server: Server, place: str, reach: Callable[[str], None]) -> None:
    open_store(place).create("file", b"one")
    with refusing_proxy(server.address) as (front, proxy):
        reach(front)
        proxy.answer = lambda _method, _path: (403, S3_ERROR % (b"AccessDenied", b"Access Denied."))
        for address in (f"{place}/file", f"{place}/*"):
            with pytest.raises(UsageError, match=f"no right to read {server.scheme}://"):
                files.find(address)
        proxy.answer = lambda _method, _path: (401, S3_ERROR % (b"Unauthorized", b"Who are you?"))
        with pytest.raises(UsageError, match=f"wrong credentials for {server.scheme}://"):
            files.find(f"{place}/file")
        proxy.answer = lambda _method, _path: None
        (file,) = files.find(f"{place}/file")
        answers = [(403, b""), (401, b"")]
        proxy.answer = lambda _method, _path: answers.pop() if answers else None
        assert files.read(file) == b"one"  # What was allowed before may be refused for a moment.


@servers
def test_a_store_that_is_away_for_long(server: Server, place: str, reach: Callable[[str], None]) -> None:
    open_store(place).create("file", b"one")
    with toxiproxy(server.address) as (front, toxics):
        reach(front)
        toxics.enable(False)
        away = f"not reachable for \\d+ s: {server.scheme}://"
        with pytest.raises(StoreAwayError, match=f"{away}.*; it has not answered yet: is its address right") as caught:
            files.find(f"{place}/file")
        assert caught.value.exit_code == ExitCode.OUTPUT
        toxics.enable(True)
        (file,) = files.find(f"{place}/file")
        toxics.enable(False)
        with pytest.raises(StoreAwayError, match=away) as caught:
            files.read(file)
        assert "is its address right" not in str(caught.value)


@servers
@pytest.mark.parametrize(
    "toxic",
    [
        ("latency", {"latency": 50, "jitter": 50}),
        ("reset_peer", {"timeout": 5}),
        ("limit_data", {"bytes": 90_000}),
        ("slow_close", {"delay": 50}),
        ("slicer", {"average_size": 2000, "size_variation": 1000, "delay": 1}),
    ],
    ids=lambda toxic: toxic[0],
)
def test_a_bad_network(
    server: Server,
    place: str,
    reach: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    toxic: tuple[str, dict[str, int]],
) -> None:
    """Whatever happens to connections on their way, what arrives is right."""
    monkeypatch.setattr(retries, "PATIENCE_SECONDS", 20.0)
    open_store(place).create("file", CONTENT)
    with toxiproxy(server.address) as (front, toxics):
        reach(front)
        (file,) = files.find(f"{place}/file")
        kind, attributes = toxic
        toxics.add(kind, stream="downstream", toxicity=0.5, **attributes)
        for start in range(0, 100_000, 10_000):
            assert files.read(file, start, 150_000) == CONTENT[start : start + 150_000]


@servers
def test_a_store_that_says_nothing(
    server: Server, place: str, reach: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request has a time limit; the next one may be answered."""
    monkeypatch.setattr(retries, "PATIENCE_SECONDS", 20.0)
    monkeypatch.setattr(s3, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setitem(gs.REQUEST_OPTIONS, "timeout", (0.3, 0.3))
    open_store(place).create("file", CONTENT)
    with toxiproxy(server.address) as (front, toxics):
        reach(front)
        (file,) = files.find(f"{place}/file")
        toxics.add("timeout", timeout=0)
        healing = threading.Timer(1.0, toxics.clear)
        healing.start()
        began = time.monotonic()
        assert files.read(file) == CONTENT
        assert time.monotonic() - began > 0.6
        healing.join()


@servers
def test_bursts_of_503(server: Server, place: str, reach: Callable[[str], None]) -> None:
    open_store(place).create("file", CONTENT)
    with refusing_proxy(server.address) as (front, proxy):
        reach(front)
        (file,) = files.find(f"{place}/file")
        fate = random.Random(3)
        proxy.answer = lambda _method, _path: (503, S3_ERROR % (b"SlowDown", b"")) if fate.random() < 0.5 else None
        ranges = [(file, start, 1000) for start in range(0, 290_000, 50_000)]
        for _ in range(10):
            assert files.read_many(ranges) == [CONTENT[start : start + 1000] for _, start, _ in ranges]


@servers
def test_a_range_that_comes_back_short(
    server: Server, place: str, reach: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may send less than was asked for, and say so; the rest is asked for."""
    open_store(place).create("file", CONTENT)
    with refusing_proxy(server.address) as (front, proxy):
        reach(front)
        (file,) = files.find(f"{place}/file")
        ask = proxy.request

        def short(method: str, path: str, headers: object, body: bytes = b"") -> object:
            changed = []
            for name, value in headers:  # type: ignore[attr-defined]
                if name.lower() == "range":
                    first, last = map(int, value.removeprefix("bytes=").split("-"))
                    value = f"bytes={first}-{min(last, first + 65_535)}"
                changed.append((name, value))
            return ask(method, path, changed, body)

        monkeypatch.setattr(proxy, "request", short)
        assert files.read(file, 1000, 250_000) == CONTENT[1000:251_000]


def test_a_damaged_record_travels_between_processes_and_is_one_line() -> None:
    error = DamagedRecord("s3://bucket/a\n.tfrecord", 7, "its \x1b[31mchecksum", unit="row")
    other = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (other.file, other.offset, other.reason, other.unit) == (error.file, 7, error.reason, "row")
    assert str(other) == str(error) == "s3://bucket/a .tfrecord, row 7: its checksum"
    assert isinstance(error, DataError)
