"""A real object store to test with: how to reach it, and what is in it."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.support.servers import BUCKET, gcs_server, s3_environ, s3_server
from trainer.output.stores.errors import UnreachableError
from trainer.output.stores.opening import open_store
from trainer.output.stores.store import PIECES, Store, StoredObject

# For a test that takes long on each kind of store: on Google's in `make test-thorough`.
s3_first = pytest.mark.parametrize("server", ["s3", pytest.param("gs", marks=pytest.mark.thorough)], indirect=True)


@contextlib.contextmanager
def opened(url: str, address: str) -> Iterator[Store]:
    """The store at `url`, of the server at `address`, whose environment lasts as long as the block."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ(address).items():
            patch.setenv(name, value)
        yield open_store(url, os.environ)


def environ(address: str) -> dict[str, str]:
    """The environment that a program needs to use a server, of whichever kind."""
    return {**s3_environ(address), "STORAGE_EMULATOR_HOST": address}


@dataclasses.dataclass
class Server:
    """An object store in which BUCKET is."""

    scheme: str
    address: str

    def environ(self, address: str = "") -> dict[str, str]:
        """The environment that a program needs to use it, at another address (a proxy's) if given."""
        return environ(address or self.address)

    def store(self, run: str) -> Store:
        with opened(f"{self.scheme}://{BUCKET}/{run}", self.address) as store:
            return store

    def objects(self, run: str) -> dict[str, StoredObject]:
        """What is there of a run. A piece may be gone before it is read, so none is."""
        store = self.store(run)
        objects = {key: read(store, key) for key in store.keys("") if not key.startswith(PIECES)}
        return {key: stored for key, stored in objects.items() if stored}

    def named_checkpoints(self, run: str) -> dict[str, str]:
        """The checkpoints that can be restored, and their checksums."""
        manifest = read(self.store(run), "mirror.json")
        checkpoints = json.loads(manifest.data)["checkpoints"] if manifest else []
        return {f"checkpoints/{entry['file']}": entry["sha256"] for entry in checkpoints}


def read(store: Store, key: str) -> StoredObject | None:
    """An object that may be changed while it is read."""
    for _ in range(10):
        with contextlib.suppress(UnreachableError):
            return store.get(key)
    raise AssertionError(f"{key} cannot be read")


@contextlib.contextmanager
def started(kind: str, folder: pathlib.Path) -> Iterator[Server]:
    """An object store of a kind, s3 or gs; what an s3 store keeps lies in the folder."""
    with s3_server(folder) if kind == "s3" else gcs_server() as address:
        yield Server(kind, address)
