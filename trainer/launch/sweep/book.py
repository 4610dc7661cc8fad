"""Where a list of trials is kept, a file or an object beside the runs; and that one launcher alone writes it."""

import contextlib
import fcntl
import os
import pathlib
from typing import IO, Protocol

from trainer.core.safe_text import redacted
from trainer.launch.codes import LaunchError
from trainer.launch.runs.trials import SUFFIX, Sweep
from trainer.output.owned_object import OwnedObject, SupersededError
from trainer.output.stores.errors import StorageError, UnreachableError
from trainer.output.stores.store import Store


class Book(Protocol):
    """Keeps the list of trials of one sweep."""

    address: str  # Where it is, for a person.

    def open(self) -> Sweep | None:
        """The list as it was left; None: there is none yet. From now on this program alone may write it.

        Raises:
          LaunchError: it cannot be read, or another launcher writes it.
          DataError: it is damaged, or a newer version wrote it.
        """

    def save(self, sweep: Sweep) -> str:
        """Keeps the list as it is now; returns why it could not be kept for the moment, or "".

        Raises:
          LaunchError: it can never be kept: another launcher has written it, or writing is refused.
        """

    def close(self) -> None:
        """Lets another launcher write it."""


class FileBook:
    """A list of trials in a file of this machine."""

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        """Takes the folder, which need not be there, and the sweep's name."""
        self._path = folder / f"{name}{SUFFIX}"
        self._lock: IO[bytes] | None = None
        self.address = str(self._path)

    def open(self) -> Sweep | None:
        """As `Book.open`."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._path.with_suffix(".lock").open("wb")  # The list itself is replaced at each change.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Sweep.from_json(self._path.read_bytes(), self.address)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            raise LaunchError(
                f"another launcher is at work on this sweep ({self.address}); `--status` shows how it stands, and "
                "--name=another begins another"
            ) from None
        except OSError as error:
            raise LaunchError(f"{self.address} cannot be read: {error.strerror or error}") from None

    def save(self, sweep: Sweep) -> str:
        """As `Book.save`."""
        part = self._path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                file.write(sweep.to_json())
                file.flush()
                os.fsync(file.fileno())
            part.rename(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            return f"{self.address} cannot be written: {error.strerror or error}"
        return ""

    def close(self) -> None:
        """As `Book.close`."""
        if self._lock:
            self._lock.close()


class StoreBook:
    """A list of trials in a bucket; every change is made from the version that this launcher knows."""

    def __init__(self, store: Store, name: str) -> None:
        """Takes the place of the runs and the sweep's name."""
        self._store, self._key = store, f"{name}{SUFFIX}"
        self._object = OwnedObject(store, self._key)
        self.address = f"{redacted(store.url)}/{self._key}"

    def open(self) -> Sweep | None:
        """As `Book.open`."""
        try:
            found = self._store.get(self._key)
        except StorageError as error:
            raise LaunchError(f"{self.address} cannot be read: {error}") from None
        if found is None:
            return None
        self._object = OwnedObject(self._store, self._key, found.data, found.version)
        return Sweep.from_json(found.data, self.address)

    def save(self, sweep: Sweep) -> str:
        """As `Book.save`."""
        try:
            self._object.flush()  # What could not be written the last time.
            data = sweep.to_json()
            if data != self._object.data:
                self._object.write(data)
                self._object.flush()
        except SupersededError:
            raise LaunchError(
                f"another launcher has written {self.address}, so this one ends; what it has started goes on, and "
                "the other one follows it"
            ) from None
        except UnreachableError as error:
            return f"{self.address} cannot be written: {error}"
        except StorageError as error:
            raise LaunchError(f"{self.address} cannot be written: {error}") from None
        return ""

    def close(self) -> None:
        """Nothing is held: who writes first is known by the object's version."""
