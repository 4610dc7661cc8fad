"""Object stores behind one small interface, which has what a mirror needs and no more.

Objects are created only if absent and changed only by compare-and-swap: of two programs that both believe to be the
only writer, one is told of the other by `ConflictError`. Every call is tried once; who calls decides when to try again.
The clients are imported when a store of their kind is opened, since they are large.

    StorageError             says which object, and what the store answered
     ├── UnreachableError    the store is away, slow, overloaded or failing: another try may succeed
     ├── RefusedError        the credentials are missing, expired, or not allowed to do it
     ├── NoBucketError       there is no such bucket
     ├── MissingError        there is no such object
     └── ConflictError       the object is not the version that was expected
"""

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from trainer.core.exit_codes import UsageError

SCHEMES = ("gs", "s3")
TIMEOUT_SECONDS = 20.0  # Of a request that carries little, and of the silence of a store that sends or takes a part.
PART_BYTES = 4 * 2**20  # A large file travels in parts of about this size, so that it needs no memory of its size.

PIECES = ".pieces/"  # Prefix of objects that wait to become another or a part of it, and are in nobody's way if left.


class StorageError(Exception):
    """A request to an object store failed."""

    def __init__(self, text: str) -> None:
        """Takes what went wrong; clients put the address that they asked into it, which may hold a password."""
        super().__init__(redacted(text))


class UnreachableError(StorageError):
    """The store did not answer, or answered that it cannot now."""


class RefusedError(StorageError):
    """The store knows who asks and says no, or does not know who asks."""


class NoBucketError(StorageError):
    """The bucket does not exist."""


class MissingError(StorageError):
    """The object does not exist."""


class ConflictError(StorageError):
    """The object exists already, or is no longer the version that was to be changed."""


@dataclasses.dataclass(frozen=True)
class Found:
    """An object's content and the version of it that was read."""

    data: bytes
    version: str
    written: float = dataclasses.field(default=0.0, compare=False)  # Unix time.


class Store(Protocol):
    """The objects below one address. Keys are relative to it, with slashes.

    Every method may raise UnreachableError, RefusedError and NoBucketError.
    """

    url: str  # The address, without a slash at its end.

    def get(self, key: str) -> Found | None:
        """Reads an object whole; None when there is none. For small ones."""

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

        To replace is not atomic on s3:// with a file of many parts: the version is asked for just before.

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
        """Deletes an object; that there is none is no error."""

    def keys(self, prefix: str) -> Iterable[str]:
        """The keys that begin with `prefix`, in any order."""


def open_store(url: str, environ: Mapping[str, str] = os.environ) -> Store:
    """Opens the objects below `url`, without asking the store anything yet.

    Args:
      url: `gs://bucket/path` (application default credentials, Workload Identity, STORAGE_EMULATOR_HOST) or
        `s3://bucket/path` (AWS_* environment variables, IRSA, an instance's role; AWS_ENDPOINT_URL or S3_ENDPOINT for
        servers that are not Amazon's).
      environ: where the credentials and endpoints are looked up.

    Raises:
      UsageError: it is no such address, or the endpoint in the environment is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
        raise UsageError(
            f"the output {redacted(url)!r} is no address of an object store; expected gs://bucket/path or "
            "s3://bucket/path"
        )
    path = parts.path.strip("/")
    if parts.scheme == "gs":
        from trainer.output.stores.gs import GoogleStore

        return GoogleStore(parts.netloc, path)
    from trainer.output.stores.s3 import S3Store

    return S3Store(parts.netloc, path, environ)


def redacted(text: str) -> str:
    """An address, or a text with addresses in it, without what may be a secret there (`scheme://user:password@…`)."""
    return re.sub(r"://[^/\s]*@", "://", text)


def join(path: str, key: str) -> str:
    """The key below `path`, which may be empty."""
    return f"{path}/{key}" if path else key
