"""Files of any size to and from an object store, each as a whole."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainer.output.mirror.mirror_manifest import Fingerprint, MirrorManifest
from trainer.output.stores.errors import ConflictError, MissingError, UnreachableError
from trainer.output.stores.store import Store

_READ_BYTES = 2**20


def put_file(store: Store, manifest: MirrorManifest, run_dir: Path, key: str) -> Fingerprint:
    """Makes an object equal to the file of its key; returns the fingerprint of both.

    Raises:
      FileNotFoundError: there is no such file.
      SupersededError: another mirror has taken over.
      StorageError: the store failed; call again later.
    """
    path = run_dir / key
    local = _fingerprint(path.name, _chunks(path))
    try:
        store.upload(key, path)
    except ConflictError:  # The answer to an earlier try was lost, or an earlier agent left the object unnamed.
        version = store.version(key)
        if version is None:
            raise UnreachableError(f"{store.url}/{key} was there and is not") from None
        if _stored_fingerprint(store, key, path.name) != local:
            # In this order: if another mirror takes over after the check, it writes an object of another version.
            manifest.check_owner()
            store.upload(key, path, replace=version)
    return local


def put_and_read_back(store: Store, manifest: MirrorManifest, run_dir: Path, key: str) -> None:
    """Stores a file and makes sure that the store gives back the same; raises as `put_file`."""
    local = put_file(store, manifest, run_dir, key)
    if _stored_fingerprint(store, key, local.file) != local:
        raise UnreachableError(f"{store.url}/{key} was read back and is not what was written")


def fetch_file(store: Store, key: str, run_dir: Path, *, sha256: str | None = None) -> bool:
    """Writes an object into the run directory, all of it or nothing.

    Returns:
      Whether it was written: the object was there, and had the checksum if one is given.

    Raises:
      StorageError: the store failed; call again later.
    """
    path = run_dir / key
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    digest = hashlib.sha256()
    try:
        with part.open("wb") as file:
            for chunk in store.stream(key):
                digest.update(chunk)
                file.write(chunk)
            os.fsync(file.fileno())
        if sha256 in (None, digest.hexdigest()):
            part.rename(path)
            return True
    except MissingError:
        pass
    finally:
        part.unlink(missing_ok=True)
    return False


def _stored_fingerprint(store: Store, key: str, name: str) -> Fingerprint | None:
    """The fingerprint of an object, which is read whole; None when there is none."""
    try:
        return _fingerprint(name, store.stream(key))
    except MissingError:
        return None


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            yield chunk


def _fingerprint(name: str, chunks: Iterable[bytes]) -> Fingerprint:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return Fingerprint(file=name, size=size, sha256=digest.hexdigest())
