"""Objects in buckets: what is there, and ranges of it, tried again until the store answers."""

import os
import threading

from trainer.output.stores.errors import MissingError, StorageError
from trainer.output.stores.opening import open_ranges
from trainer.output.stores.ranges import Entry, Ranges
from trainer.sources.files.file import File, split
from trainer.sources.files.retries import Retries

SMALLEST_PART = 64 * 2**10  # A request that failed is tried again with half the bytes, but for no less than these.

_clients: dict[tuple[str, str], Ranges] = {}
_lock = threading.Lock()


def forget_clients() -> None:
    """Lets the next request look at the environment again; a forked process cannot use its parent's connections."""
    _clients.clear()


os.register_at_fork(after_in_child=forget_clients)


def client(scheme: str, bucket: str) -> Ranges:
    """The client of a bucket, which all threads share."""
    with _lock:
        if (scheme, bucket) not in _clients:
            _clients[scheme, bucket] = open_ranges(scheme, bucket)
        return _clients[scheme, bucket]


def describe(url: str) -> File | None:
    """Looks at one object; None when there is none."""
    scheme, bucket, key = split(url)
    ranges = client(scheme, bucket)
    retries = Retries(ranges.url)
    while True:
        try:
            entry = ranges.describe(key)
        except MissingError:
            retries.succeeded()
            return None
        except StorageError as error:
            retries.failed(error)
        else:
            retries.succeeded()
            return File(url, entry.size, entry.version)


def entries(url: str) -> list[Entry]:
    """All objects below a folder, with their whole keys."""
    scheme, bucket, folder = split(url)
    ranges = client(scheme, bucket)
    retries = Retries(ranges.url)
    while True:
        try:
            found = list(ranges.entries(folder.rstrip("/")))
        except StorageError as error:
            retries.failed(error)
        else:
            retries.succeeded()
            return found


def read(file: File, start: int, size: int) -> bytes:
    """Reads a range, of that version of the object; one that comes back short is read on.

    Raises:
      UsageError, DataError, StoreAwayError: see `Retries`.
    """
    scheme, bucket, key = split(file.url)
    ranges = client(scheme, bucket)
    retries = Retries(ranges.url)
    parts: list[bytes] = []
    done, most = 0, size
    while done < size:
        try:
            part = ranges.read(key, start + done, min(most, size - done), file.version)
        except StorageError as error:
            retries.failed(error)
            most = max(most // 2, SMALLEST_PART)
        else:
            retries.succeeded()
            parts.append(part)
            done += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
