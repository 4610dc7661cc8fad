"""The interface of an object store that data are read from: what is there, and ranges of it, of one version.

Every call is tried once; whoever calls decides when to try again. Any number of threads may call at the same time.
"""

import dataclasses
from collections.abc import Iterator
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class Entry:
    """An object: its key in the bucket, its size in bytes, and its version (an ETag or a generation)."""

    key: str
    size: int
    version: str


class Ranges(Protocol):
    """The objects of one bucket.

    Every method may raise UnreachableError, RefusedError and NoBucketError.
    """

    url: str  # The bucket's address, without a slash at its end.

    def describe(self, key: str) -> Entry:
        """Looks at one object.

        Raises:
          MissingError: there is none.
        """

    def entries(self, folder: str) -> Iterator[Entry]:
        """All objects below a folder ("" for all of the bucket), in any order."""

    def read(self, key: str, start: int, size: int, version: str) -> bytes:
        """Reads at most `size` bytes, at least one, from `start` on.

        Raises:
          MissingError: there is no such object.
          ConflictError: it has another version.
        """
