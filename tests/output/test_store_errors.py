"""What a store says when it refuses, fails or is away, and when an address or credentials are none."""

import contextlib
import json
import os
from pathlib import Path

import pytest

from tests.support.mirrored_run import Clock
from tests.support.object_stores import Server, opened
from tests.support.servers import BUCKET, SECRET, s3_environ, s3_server, toxiproxy
from tests.support.servers.refusing_proxy import S3_ERROR, refusing_proxy
from trainer.core.exit_codes import OutputError, UsageError
from trainer.output.mirror.mirror import Mirror
from trainer.output.stores.errors import AddressError, NoBucketError, RefusedError, UnreachableError
from trainer.output.stores.opening import open_store
from trainer.output.stores.store import StoredObject

pytestmark = pytest.mark.servers


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


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, b"ExpiredToken", UnreachableError),
        (403, b"RequestTimeTooSkewed", UnreachableError),
        (403, b"InvalidAccessKeyId", RefusedError),
        (400, b"InvalidBucketName", AddressError),
        (400, b"AuthorizationHeaderMalformed", AddressError),  # As Amazon says it to another region.
        (301, b"PermanentRedirect", AddressError),
    ],
)
def test_what_s3_says_that_another_pod_or_nobody_can_mend(
    tmp_path: Path, status: int, code: bytes, error: type[Exception]
) -> None:
    """What another pod or node may not meet is no error of the configuration."""
    with (
        s3_server(tmp_path) as address,
        refusing_proxy(address) as (front, proxy),
        opened(f"s3://{BUCKET}/run", front) as store,
    ):
        proxy.answer = lambda _method, _path: (status, S3_ERROR % (code, b"because"))
        for ask in (lambda: store.create("a", b"data"), lambda: store.get("a"), lambda: list(store.keys("a/"))):
            with pytest.raises(error, match=f"{code.decode()}: because|incorrectly configured region"):
                ask()


@pytest.mark.parametrize(
    ("status", "code", "error", "seconds"),
    [
        (403, b"RequestTimeTooSkewed", OutputError, 300),
        (400, b"InvalidBucketName", UsageError, 0),
        (403, b"AccessDenied", UsageError, 60),
    ],
)
def test_what_can_never_be_right_ends_a_start_at_once_and_what_another_node_mends_as_an_outage(
    tmp_path: Path, status: int, code: bytes, error: type[Exception], seconds: int
) -> None:
    with (
        s3_server(tmp_path / "s3") as address,
        refusing_proxy(address) as (front, proxy),
        opened(f"s3://{BUCKET}/run", front) as store,
    ):
        proxy.answer = lambda _method, _path: (status, S3_ERROR % (code, b"because"))
        clock = Clock()
        with pytest.raises(error, match=f"{code.decode()}: because"):
            Mirror(
                store,
                tmp_path / "run",
                worker=0,
                interval=5.0,
                final_timeout=300.0,
                say=lambda _: None,
                threads=False,
                clock=clock,
                wait=clock.wait,
            ).begin()
        assert seconds <= clock.now <= seconds + 35


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


@pytest.mark.parametrize(
    "url", ["s3://b", "gs://my bucket/a", "s3://bucket-/a", "gs://b%C3%BCcket", "s3://bucket:9000/a"]
)
def test_refuses_what_can_be_no_buckets_name_and_names_it(url: str) -> None:
    with pytest.raises(UsageError, match=f"'{url}' names no bucket: '[^']*' is no name of 3 to 222 letters"):
        open_store(url)


@pytest.mark.parametrize("url", ["s3://bucket/a//c", "gs://bucket/a/../c", "s3://bucket/./c", "gs://bucket/a\x7fb"])
def test_refuses_a_path_that_a_client_would_fail_on(url: str) -> None:
    with pytest.raises(UsageError, match="has an empty part between its slashes"):
        open_store(url)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"])
@pytest.mark.parametrize("value", ["ak\n", " ak", "a\x00k", "schlüssel"])
def test_refuses_a_credential_that_can_never_work_and_names_it(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"{name} in the environment ends in a line break") as caught:
        open_store("s3://bucket/run", {name: value})
    assert value not in str(caught.value)


@pytest.mark.parametrize("run", ["lr#1", "what?", "50%", "a b"])
def test_the_name_of_a_run_is_no_part_of_an_address(run: str, server: Server) -> None:
    with opened(f"{server.scheme}://{BUCKET}", server.address):
        store = open_store(f"{server.scheme}://{BUCKET}/runs/", os.environ, run=run)
        store.create("key", b"content")
        found = store.get("key")
        assert found
        assert found.data == b"content"
        assert store.url == f"{server.scheme}://{BUCKET}/runs/{run}"
        assert list(open_store(f"{server.scheme}://{BUCKET}").keys(f"runs/{run}/")) == [f"runs/{run}/key"]
