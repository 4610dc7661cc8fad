"""The same as test_hostile_bucket.py, on real object stores: what their clients make of a name is their own affair."""

import contextlib
import shutil
import tempfile
import urllib.request
import uuid
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings

from tests.support.hostile_bucket import buckets, made, manifest, taken_over_from
from tests.support.mirrored_run import Training
from tests.support.object_stores import Server, s3_first
from tests.support.servers import BUCKET
from trainer.core.exit_codes import DataError
from trainer.core.run_dir import ATTEMPTS, MANIFEST
from trainer.output import reader, stores
from trainer.output.stores.errors import StorageError

pytestmark = pytest.mark.servers


def put(server: Server, run: str, key: str, data: bytes) -> None:
    """Puts an object under any name that the store takes, also one that this project's client would not write."""
    if server.scheme == "gs":
        name = quote(f"{run}/{key}", safe="")
        url = f"{server.address}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}"
        request = urllib.request.Request(url, data, {"Content-Type": "application/octet-stream"})  # noqa: S310
        with contextlib.suppress(OSError, ValueError):
            urllib.request.urlopen(request).close()  # noqa: S310
        return
    with contextlib.suppress(StorageError, ValueError):
        server.store(run).create(key, data)


def test_what_is_put_is_there(server: Server) -> None:
    put(server, "put", "checkpoints/..tfevents", b"x")
    put(server, "put", "train/a\nb", b"x")
    keys = set(server.store("put").keys(""))
    assert "checkpoints/..tfevents" in keys
    assert keys == {"checkpoints/..tfevents", "train/a\nb"} or server.scheme == "s3"


@s3_first
@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(objects=buckets())
def test_whatever_is_in_the_store(server: Server, objects: dict[str, bytes]) -> None:
    run = f"runs/{uuid.uuid4().hex}"
    for key, data in objects.items():
        put(server, run, key, data)
    root = Path(tempfile.mkdtemp(dir="/dev/shm")).resolve()
    try:
        place = made(root)
        taken_over_from(place, server.store(run))
        store = server.store(run)
        for read in (reader.result, reader.attempts, lambda store: list(reader.logs(store, 0))):
            with contextlib.suppress(DataError):
                read(store)
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize("name", ["../../../keras.py", "/etc/keras.py", "a/step-0000000001.npz", ".."])
def test_a_checkpoint_of_another_name_is_refused(server: Server, name: str, tmp_path: Path) -> None:
    run = f"runs/{uuid.uuid4().hex}"
    put(server, run, MANIFEST, manifest(name))
    put(server, run, f"checkpoints/{name}", b"bytes")
    error = taken_over_from(made(tmp_path), server.store(run))
    assert isinstance(error, DataError)
    assert f"/{run}/mirror.json is not what a mirror writes" in str(error)


def test_what_is_not_the_runs_own_does_not_disturb(server: Server, run: str, tmp_path: Path) -> None:
    foreign = ("checkpoints/step-backup.npz", "train/events.out.tfevents.backup", ".pieces/..keras.py", "workers/x/y")
    for key in foreign:
        put(server, run, key, b"x")
    place = made(tmp_path)
    Training(place.run_dir, 1).do_step(10)
    assert taken_over_from(place, server.store(run)) is None
    assert set(foreign) - {".pieces/..keras.py"} <= set(server.store(run).keys(""))


@pytest.mark.parametrize("key", [MANIFEST, "train/events.out.tfevents.0000000000", ATTEMPTS])
def test_an_object_that_fills_the_memory_is_damage(
    server: Server, run: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores.store, "MOST_BYTES", 1000)
    put(server, run, key, bytes(1001))
    error = taken_over_from(made(tmp_path), server.store(run))
    assert isinstance(error, DataError)
    assert f"/{run}/{key} is 1001 bytes large" in str(error)
