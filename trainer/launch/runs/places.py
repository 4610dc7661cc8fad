"""Where runs are kept, to be read: a bucket, or a folder on this machine."""

import os
from collections.abc import Iterable
from pathlib import Path

from trainer.core.exit_codes import UsageError
from trainer.core.safe_text import redacted
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.output.stores import store
from trainer.output.stores.errors import RefusedError, TooLargeError, UnreachableError
from trainer.output.stores.opening import open_store
from trainer.output.stores.store import Folders, Readable, StoredObject, join


class NoFolderError(LaunchError):
    """There is no folder of that name on this machine."""


class LocalFolder:
    """A folder on this machine, as `Folders`."""

    def __init__(self, path: Path) -> None:
        """Takes the folder; it need not be there."""
        self.url = str(path)
        self._path = path

    def get(self, key: str) -> StoredObject | None:
        """A file that is whole."""
        path = self._path / key
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size > store.MOST_BYTES:
                    raise TooLargeError(str(path), status.st_size, store.MOST_BYTES)
                return StoredObject(file.read(), "", status.st_mtime)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except PermissionError:
            raise RefusedError(f"{path}: this user may not read it") from None
        except OSError as error:
            raise UnreachableError(f"{path}: {error.strerror or error}") from None

    def keys(self, prefix: str) -> Iterable[str]:
        """The files below the folder that `prefix` names."""
        folder = self._path / prefix.rpartition("/")[0]
        found = [
            os.path.relpath(os.path.join(parent, name), self._path)
            for parent, _, names in os.walk(folder)
            for name in names
        ]
        return [key for key in found if key.startswith(prefix)]

    def children(self) -> tuple[list[str], list[str]]:
        """The names of the folders and of the files directly in it; raises NoFolderError, too."""
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(self._path) as entries:
                for entry in entries:
                    (folders if entry.is_dir() else files).append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            raise NoFolderError(f"{self.url} is no folder; expected one in which runs lie") from None
        except PermissionError:
            raise RefusedError(f"{self.url}: this user may not read it") from None
        except OSError as error:
            raise UnreachableError(f"{self.url}: {error.strerror or error}") from None
        return folders, files


class RunFolder:
    """One run in a place, as `Readable`."""

    def __init__(self, place: Readable, run: str) -> None:
        """Takes the place and the run's name in it; "": the place itself is the run."""
        self.url = f"{place.url.rstrip('/')}/{run}" if run else place.url
        self._place, self._run = place, run

    def get(self, key: str) -> StoredObject | None:
        """An object of the run."""
        return self._place.get(join(self._run, key))

    def keys(self, prefix: str) -> Iterable[str]:
        """The keys, from the run's folder, that begin with `prefix`."""
        start = len(join(self._run, ""))
        return [key[start:] for key in self._place.keys(join(self._run, prefix))]


def open_place(address: str) -> Folders:
    """The place of an address: gs://…, s3://…, or a folder on this machine.

    Raises:
      UsageError: it is none of these.
    """
    if address.startswith("pvc:"):
        raise UsageError(
            f"--output={address} can be read by pods alone; expected gs://bucket/path, s3://bucket/path or a folder "
            "(`logs` and `status` of a run on a claim say how a pod reads it)"
        )
    if "://" in address:
        return open_store(address)
    if not address or "\0" in address:
        raise UsageError(
            f"--output={address!a} names no place; expected gs://bucket/path, s3://bucket/path or a folder"
        )
    return LocalFolder(Path(address))


def split_address(address: str) -> tuple[str, str]:
    """The place and the run's name in the address of a run: gs://bucket/path/run, or a folder.

    Raises:
      UsageError: it is no address of a run.
    """
    head, slash, run = address.rstrip("/").rpartition("/")
    if "://" in address and (head.endswith(("/", ":")) or not run):
        raise UsageError(f"{redacted(address)} is the address of a bucket; expected that of a run in it")
    return head or slash or ".", run  # A run directly below / has nothing before its slash.


def no_such_run(place: Folders, run: str) -> LaunchError:
    """The error that says that there is no such run, and which command lists those that are there."""
    return LaunchError(
        f"there is no run {run} in {redacted(place.url)}; `list --output={redacted(place.url)}` shows those that are",
        LaunchCode.NOT_STARTED,
    )
