"""Whole files to and from an object store: checkpoints, what a run ends with, and files small enough to send anew."""

import contextlib
import hashlib
import os
from pathlib import Path

from trainer.core.exit_codes import DataError
from trainer.core.run_dir import CHECKPOINTS, checkpoint_names
from trainer.output.mirror_manifest import Manifest, Stored
from trainer.output.segments import Cell
from trainer.output.stores.store import ConflictError, MissingError, Store, UnreachableError


class GrowingFile:
    """Keeps one object equal to a small file that grows by whole lines."""

    def __init__(self, store: Store, run_dir: Path, key: str) -> None:
        self._store, self.key, self._path = store, key, run_dir / key
        self._cell = Cell(store, key)

    def resume(self) -> None:
        """Goes on from the object that is there, and writes the file when there is none."""
        found = self._store.get(self.key)
        if found is None:
            self._cell = Cell(self._store, self.key)
            return
        self._cell = Cell(self._store, self.key, found.data, found.version)
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(found.data)

    def flush(self) -> None:
        """Brings what the file holds to the store; raises as `Cell.settle`."""
        self._cell.settle()
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        data = data[: data.rfind(b"\n") + 1]
        if data != self._cell.data:
            self._cell.write(data)
            self._cell.settle()

    def backlog(self) -> int:
        """The bytes that are not in the store yet."""
        with contextlib.suppress(FileNotFoundError):
            return max(self._path.stat().st_size - len(self._cell.data), 0) + self._cell.unsettled()
        return 0


def put_checkpoint(store: Store, manifest: Manifest, run_dir: Path, name: str) -> None:
    """Stores a checkpoint, then says so in the manifest, then deletes those that are not on disk any more.

    Raises:
      SupersededError: another mirror has taken over.
      StorageError: the store failed; nothing is visible yet, or old ones are still there: call again later.
    """
    key = f"{CHECKPOINTS}/{name}"
    manifest.settle()  # It may name this one, though the answer was lost: then it stays as it is.
    if all(stored.file != name for stored in manifest.checkpoints):
        try:
            new = _put(store, manifest, run_dir, key)
        except FileNotFoundError:
            return  # It was removed, so there is a newer one.
        on_disk = set(checkpoint_names(run_dir))
        manifest.write((*(stored for stored in manifest.checkpoints if stored.file in on_disk), new))
    if manifest.swept:
        return
    manifest.check()  # Time may have passed since it was written.
    named = {f"{CHECKPOINTS}/{stored.file}" for stored in manifest.checkpoints}
    for stale in store.keys(f"{CHECKPOINTS}/"):
        if stale not in named and stale < key:  # No later one: an agent before this one may have left it, whole.
            store.delete(stale)
    manifest.swept = True


def fetch_checkpoint(store: Store, manifest: Manifest, run_dir: Path) -> str | None:
    """Fetches the newest checkpoint that is whole; returns its name, None when the manifest names none.

    Those that are damaged are removed, so that each is stored anew once the run comes to its step again.

    Raises:
      DataError: none of those named is there and whole.
      SupersededError: another mirror has taken over.
      StorageError: the store failed; call again later.
    """
    named = manifest.checkpoints
    while manifest.checkpoints:
        *older, newest = manifest.checkpoints
        key = f"{CHECKPOINTS}/{newest.file}"
        if fetch(store, key, run_dir, newest.sha256):
            return newest.file
        if not older:  # One stays named, so that no later start takes this for a run that has nothing yet.
            raise DataError(
                f"{store.url}/{CHECKPOINTS} holds none of the checkpoints that it should, whole: "
                f"{', '.join(stored.file for stored in named)}"
            )
        manifest.write(tuple(older))
        store.delete(key)
    return None


def fetch(store: Store, key: str, run_dir: Path, sha256: str | None = None) -> bool:
    """Writes an object into the run directory, all of it or nothing; whether it was there and as expected."""
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


def put_final(store: Store, manifest: Manifest, run_dir: Path, key: str) -> None:
    """Stores a file that the run ends with, and reads it back.

    Raises:
      SupersededError: another mirror has taken over.
      StorageError: the store failed, or gave back something else; call again later.
    """
    local = _put(store, manifest, run_dir, key)
    if read_back(store, key, local.file) != local:
        raise UnreachableError(f"{store.url}/{key} was read back and is not what was written")


def _put(store: Store, manifest: Manifest, run_dir: Path, key: str) -> Stored:
    """Makes an object what the file of its name is now; returns what that is.

    Raises:
      FileNotFoundError: there is no such file.
      SupersededError: another mirror has taken over.
      StorageError: the store failed; call again later.
    """
    local = described(run_dir / key)
    try:
        store.upload(key, run_dir / key)
    except ConflictError:  # A lost answer, or something that an agent before this one left; no manifest names it.
        version = store.version(key)
        if version is None:
            raise UnreachableError(f"{store.url}/{key} was there and is not") from None
        if read_back(store, key, local.file) != local:
            manifest.check()  # After the version is known: who is superseded later than this has the wrong one.
            store.upload(key, run_dir / key, replace=version)
    return local


def described(path: Path) -> Stored:
    """Size and checksum of a file on disk."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
            size += len(chunk)
    return Stored(file=path.name, size=size, sha256=digest.hexdigest())


def read_back(store: Store, key: str, name: str) -> Stored | None:
    """Size and checksum of an object, read whole; None when there is none."""
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in store.stream(key):
            digest.update(chunk)
            size += len(chunk)
    except MissingError:
        return None
    return Stored(file=name, size=size, sha256=digest.hexdigest())
