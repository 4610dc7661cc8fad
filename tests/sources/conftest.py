import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.object_stores import Server, environ, started
from tests.support.servers import BUCKET
from trainer.output.stores.opening import open_store
from trainer.sources import files
from trainer.sources.files import bucket, retries
from trainer.sources.indexes import side_index

Upload = Callable[[Path], str]
servers = pytest.mark.servers


@pytest.fixture(autouse=True)
def fresh_files(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """As in a process that has read nothing yet, and that is in a hurry."""
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(retries, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(retries, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(retries, "FIRST_PATIENCE_SECONDS", 0.5)
    indexes = tmp_path_factory.mktemp("indexes")
    monkeypatch.setattr(side_index, "cache_folder", lambda: indexes)
    retries.forget()
    bucket.forget_clients()
    yield
    files.use_cache(None)
    bucket.forget_clients()


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Points the clients of this process to a server's address."""

    def reach(address: str) -> None:
        for name, value in environ(address).items():
            monkeypatch.setenv(name, value)
        bucket.forget_clients()

    return reach


@pytest.fixture
def place(server: Server, reach: Callable[[str], None], request: pytest.FixtureRequest) -> str:
    """The address of a folder in a bucket that no other test has."""
    reach(server.address)
    return f"{server.scheme}://{BUCKET}/{folder_name(request)}"


@pytest.fixture(scope="module", params=["local", pytest.param("s3", marks=servers), pytest.param("gs", marks=servers)])
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server | None]:
    """Each place that data can lie in; None: this disk."""
    if request.param == "local":
        yield None
    else:
        with started(request.param, tmp_path_factory.mktemp("store")) as server:
            yield server


@pytest.fixture
def placed(storage: Server | None, reach: Callable[[str], None], request: pytest.FixtureRequest) -> Upload:
    """Brings a local folder to where a test's data are to lie; returns the address that it has there."""
    if storage is None:
        return str
    reach(storage.address)
    url = f"{storage.scheme}://{BUCKET}/{folder_name(request)}"
    return lambda folder: uploaded(folder, url)


@pytest.fixture
def upload(place: str) -> Callable[[Path], str]:
    """Puts a local folder into the bucket; returns the address that it has there."""

    return lambda folder: uploaded(folder, place)


def uploaded(folder: Path, url: str) -> str:
    store = open_store(url, os.environ)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            key = str(path.relative_to(folder))
            store.upload(key, path, replace=store.version(key))
    return url


def folder_name(request: pytest.FixtureRequest) -> str:
    """A test's name, without what an address or a pattern gives a meaning."""
    return re.sub(r"[^a-z0-9_]", "-", request.node.name)
