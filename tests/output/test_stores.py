"""The stores, on a real S3 server and on an emulator of Google Cloud Storage."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import BUCKET, SECRET, gcs_server, s3_environ, s3_server, toxiproxy
from tests.support.servers.refusing_proxy import S3_ERROR, refusing_proxy
from trainer.core.exit_codes import UsageError
from trainer.output.stores import gs, s3
from trainer.output.stores.errors import ConflictError, MissingError, NoBucketError, RefusedError, UnreachableError
from trainer.output.stores.opening import open_store
from trainer.output.stores.store import PART_BYTES, Store, StoredObject

pytestmark = pytest.mark.servers

LARGE = s3.WHOLE_BYTES + PART_BYTES + 17


@pytest.fixture(scope="module")
def s3_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture(scope="module")
def gcs_address() -> Iterator[str]:
    with gcs_server() as address:
        yield address


@contextlib.contextmanager
def opened(url: str, address: str) -> Iterator[Store]:
    """The store at `url`, of the server at `address`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**s3_environ(address), "STORAGE_EMULATOR_HOST": address}.items():
            patch.setenv(name, value)
        yield open_store(url, os.environ)


@pytest.fixture(params=["s3", "gs"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def address(scheme: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue({"s3": "s3_address", "gs": "gcs_address"}[scheme]))


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


def test_no_such_bucket(scheme: str, address: str) -> None:
    with opened(f"{scheme}://no-such-bucket/run", address) as store:
        for ask in (lambda: store.create("a", b""), lambda: list(store.keys("a/"))):
            with pytest.raises(NoBucketError, match=f"{scheme}://no-such-bucket/run: there is no such bucket"):
                ask()


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, b"AccessDenied", RefusedError),
        (401, b"Unauthorized", RefusedError),
        (429, b"SlowDown", UnreachableError),
        (500, b"InternalError", UnreachableError),
        (503, b"SlowDown", UnreachableError),
    ],
)
def test_what_a_store_says(
    scheme: str, address: str, status: int, code: bytes, error: type[Exception], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10)
    with refusing_proxy(address) as (front, proxy), opened(f"{scheme}://{BUCKET}/run", front) as store:
        version = store.create(f"swapped-{status}", b"x")
        proxy.answer = lambda _method, _path: (status, S3_ERROR % (code, b"because"))
        for ask in (
            lambda: store.create("a", b"data"),
            lambda: store.swap(f"swapped-{status}", b"data", version),
            lambda: store.append(f"swapped-{status}", b"x", b"data", version),
            lambda: store.get("a"),
            lambda: store.delete("a"),
            lambda: list(store.keys("a/")),
            lambda: list(store.stream("a")),
            lambda: store.upload("b", tmp_path / "file"),
        ):
            with pytest.raises(error) as caught:
                ask()
            text = str(caught.value)
            assert text.startswith(f"{scheme}://{BUCKET}/run")
            assert len(text) < 400
            assert "\n" not in text
            assert SECRET not in text


def test_expired_credentials_of_s3(s3_address: str) -> None:
    with refusing_proxy(s3_address) as (front, proxy), opened(f"s3://{BUCKET}/run", front) as store:
        proxy.answer = lambda _method, _path: (400, S3_ERROR % (b"ExpiredToken", b"The provided token has expired."))
        with pytest.raises(RefusedError, match=r"ExpiredToken: The provided token has expired\."):
            store.create("a", b"data")


def test_a_password_in_the_address_of_a_server_is_not_told(scheme: str, address: str) -> None:
    with refusing_proxy(address) as (front, proxy):
        proxy.answer = lambda _method, path: (503, f"try http://user:{SECRET}@host{path}".encode())
        closed = "http://127.0.0.1:9"
        for server in (front, closed):
            with opened(f"{scheme}://{BUCKET}/run", server.replace("//", f"//user:{SECRET}@")) as store:
                for ask in (lambda: store.create("a", b""), lambda: list(store.stream("a"))):
                    with pytest.raises(UnreachableError) as caught:
                        ask()
                    assert str(caught.value).startswith(f"{scheme}://{BUCKET}/run/a: ")
                    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["http://host:port", f"http://user:{SECRET}/@host", "ftp://host", "no host"])
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL in the environment is no address of a server") as caught:
        open_store(f"s3://{BUCKET}/run", s3_environ(endpoint))
    assert SECRET not in str(caught.value)


USER = {"type": "authorized_user", "client_id": "id", "client_secret": SECRET, "refresh_token": SECRET}
EXTERNAL = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "no such token"},
}


@pytest.mark.parametrize(
    ("credentials", "error", "text"),
    [
        (USER, UnreachableError, "ProxyError|Max retries|Unable to connect"),
        (EXTERNAL, RefusedError, "File 'no such token' was not found"),
        (["not", "credentials"], RefusedError, "these are no credentials"),
        (None, RefusedError, "these are no credentials: .*Is a directory"),
    ],
)
def test_google_credentials_of_any_kind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, credentials: object, error: type[Exception], text: str
) -> None:
    """Those that name no project are tried, and those that are none are refused."""
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # Nothing listens there: Google is not asked.
    path = tmp_path / "credentials.json"
    if credentials is None:
        path.mkdir()
    else:
        path.write_text(json.dumps(credentials))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    store = open_store(f"gs://{BUCKET}/run")
    with pytest.raises(error, match=f"gs://{BUCKET}/run.*({text})") as caught:
        store.get("a")
    assert SECRET not in str(caught.value)


def test_google_credentials_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    store = open_store(f"gs://{BUCKET}/run")
    with pytest.raises(RefusedError, match=f"gs://{BUCKET}/run: File .*key.json was not found"):
        store.get("a")


def test_is_asked_once(scheme: str, address: str) -> None:
    """The mirror decides when to try again: a client that tries by itself holds it up."""
    with refusing_proxy(address) as (front, proxy), opened(f"{scheme}://{BUCKET}/run", front) as store:
        proxy.answer = lambda _method, _path: (503, b"")
        with pytest.raises(UnreachableError):
            store.create("once", b"data")
        assert len(proxy.requests) == 1


def test_unreachable(scheme: str, address: str) -> None:
    with toxiproxy(address) as (front, toxics), opened(f"{scheme}://{BUCKET}/run", front) as store:
        toxics.enable(False)
        with pytest.raises(UnreachableError, match=f"{scheme}://{BUCKET}/run/a: "):
            store.create("a", b"")
        toxics.enable(True)
        toxics.add("reset_peer", timeout=0)
        with pytest.raises(UnreachableError):
            store.create("b", b"")
        toxics.clear()
        toxics.add("limit_data", bytes=100)
        with pytest.raises(UnreachableError):
            store.create("c", b"")


def test_truncated_answers(scheme: str, address: str) -> None:
    with toxiproxy(address) as (front, toxics), opened(f"{scheme}://{BUCKET}/truncated", front) as store:
        data = os.urandom(100_000)
        store.create("a", data)
        for limit in (10, 100, 300, 1000, 50_000):
            toxics.add("limit_data", bytes=limit)
            for read in (lambda: store.get("a"), lambda: b"".join(store.stream("a"))):
                with contextlib.suppress(
                    UnreachableError
                ):  # The answer may be whole, on a connection that was opened before.
                    found = read()
                    assert found in (data, StoredObject(data, getattr(found, "version", "")))
            with pytest.raises(UnreachableError):
                list(store.stream("a"))
            toxics.clear()


@pytest.mark.parametrize(
    "url", ["", "bucket/run", "gs://", "s3:///run", "http://bucket/run", "gs://user:pass@bucket/run", "pvc:claim"]
)
def test_refuses_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError, match="gs://bucket/path or s3://bucket/path") as caught:
        open_store(url)
    assert "pass@" not in str(caught.value)
