"""The interface of an object store: what a mirror needs, and no more.

Objects are created only if absent and changed only by compare-and-swap: of two programs that both believe to be the
only writer, one is told of the other by `ConflictError`. Every call is tried once; whoever calls decides when to try
again.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

TIMEOUT_SECONDS = 20.0  # For a request that carries little, and for the silence of a store while a large file travels.
MOST_BYTES = 256 * 2**20  # Of an object that is read whole: text, curves, a segment of events.
PART_BYTES = 4 * 2**20  # A large file travels in parts of about this size, so that it needs no memory of its size.
PIECES = ".pieces/"  # Prefix of objects that are to be joined to another, or copied; any that is left can be deleted.


@dataclasses.dataclass(frozen=True)
class StoredObject:
    """An object's content and the version of it that was read."""

    data: bytes
    version: str
    written: float = dataclasses.field(default=0.0, compare=False)  # When, in seconds since 1970.


class Readable(Protocol):
    """What can be read of the objects below one address. Keys are relative to it, with slashes.

    Every method may raise UnreachableError, RefusedError, NoBucketError and AddressError.
    """

    url: str  # The address, without a slash at its end.

    def get(self, key: str) -> StoredObject | None:
        """Reads a small object, whole; None when there is none.

        Raises:
          TooLargeError: it has more than MOST_BYTES.
        """

    def keys(self, prefix: str) -> Iterable[str]:
        """The keys that begin with `prefix`, in any order."""


class Folders(Readable, Protocol):
    """The same, where what lies directly below the address can be listed without all that lies deeper."""

    def children(self) -> tuple[list[str], list[str]]:
        """The names of the folders, and of the objects, that lie directly below the address; in any order."""


class Store(Folders, Protocol):
    """The objects below one address, to be read and written; raises as `Readable`."""

    def create(self, key: str, data: bytes) -> str:
        """Creates an object and returns its version.

        Raises:
          ConflictError: it exists.
        """

    def swap(self, key: str, data: bytes, version: str) -> str:
        """Replaces that version of an object and returns the new version.

        Raises:
          ConflictError: it has another version, or is gone.
        """

    def append(self, key: str, old: bytes, new: bytes, version: str) -> str:
        """Replaces that version, whose content is `old`, by `old + new`; sends only `new` where the store can append.

        Raises:
          ConflictError: it has another version, or is gone.
        """

    def version(self, key: str) -> str | None:
        """The version of an object of any size; None when there is none."""

    def upload(self, key: str, path: Path, *, replace: str | None = None) -> None:
        """Creates an object from a file of any size, or replaces that version of it.

        Replacing by a file of many parts is not atomic on s3://: the version is asked for just before.

        Raises:
          ConflictError: it exists, or has another version than the one to be replaced, or is gone.
          FileNotFoundError: there is no such file.
        """

    def stream(self, key: str) -> Iterator[bytes]:
        """Reads an object of any size, piece by piece.

        Raises:
          MissingError: there is none.
        """

    def delete(self, key: str) -> None:
        """Deletes an object; it is no error if there is none."""


def join(path: str, key: str) -> str:
    """The key below `path`, which may be empty."""
    return f"{path}/{key}" if path else key
