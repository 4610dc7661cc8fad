"""Objects that only one writer changes, though another may believe to be that writer.

A cell is created only if absent and changed only by compare-and-swap. A chain is a row of numbered cells, of which only
the last one grows. A successor takes a chain over by changing its last cell and creating the one behind it: whatever
the predecessor writes next, it fails, and learns that it was superseded.

An answer may be lost after the store has done what it was asked. So a write that failed is repeated as it was, until it
is known to be done, before anything else is written: it can take effect only once, however late it arrives.
"""

from collections.abc import Callable

from trainer.core.exit_codes import OutputError
from trainer.output.stores.store import ConflictError, Found, Store, UnreachableError

SEGMENT_BYTES = 256 * 2**10  # A cell of a chain grows to this size, or to that of its first write.


class SupersededError(OutputError):
    """Another program writes where only this one should."""


class Cell:
    """One object and what its writer knows of it."""

    def __init__(self, store: Store, key: str, data: bytes = b"", version: str | None = None) -> None:
        self.key = key
        self.data = data  # As it will be once `settle` has returned.
        self._store = store
        self._version = version  # None while there is no such object.
        self._stored = data
        self._settled = True

    def write(self, data: bytes) -> None:
        """Takes over the new content; `settle` brings it to the store, and must have done so with the last one."""
        assert self._settled, "the write before this one is not settled"  # noqa: S101
        self.data, self._settled = data, False

    def settle(self) -> None:
        """Brings the content to the store, if it is not there yet.

        Raises:
          SupersededError: somebody else changed the object.
          StorageError: the store failed; call again later.
        """
        if self._settled:
            return
        try:
            if self._version is None:
                version = self._store.create(self.key, self.data)
            elif self.data.startswith(self._stored):
                new = self.data[len(self._stored) :]
                version = self._store.append(self.key, self._stored, new, self._version)
            else:
                version = self._store.swap(self.key, self.data, self._version)
        except ConflictError:
            version = self._own_version()
        self._version, self._stored, self._settled = version, self.data, True

    def unsettled(self) -> int:
        """The bytes that were written and are not known to be in the store."""
        return abs(len(self.data) - len(self._stored))

    def _own_version(self) -> str:
        """The version of the object after a conflict, if the conflict was with this cell's own lost write."""
        found = self._store.get(self.key)
        if found and found.data == self.data:
            return found.version
        if (found.version if found else None) == self._version:
            raise UnreachableError(f"{self._store.url}/{self.key}: the store takes it for busy")
        raise SupersededError(
            f"{self._store.url}/{self.key} was {'changed' if found else 'removed'} by somebody else: another agent has "
            "taken over this run, and this one stops writing to it"
        )


class Chain:
    """A row of objects that grows at its end."""

    def __init__(self, store: Store, name: Callable[[int], str]) -> None:
        self._store = store
        self._name = name  # Makes the key of a number, from 0.
        self._tail: Cell | None = None
        self._number = -1

    @property
    def count(self) -> int:
        """The number of objects."""
        return self._number + 1

    def unsettled(self) -> int:
        """The bytes that were written and are not known to be in the store."""
        return self._tail.unsettled() if self._tail else 0

    def fits(self, size: int) -> bool:
        """Whether the last object can take that many bytes more."""
        return self._tail is not None and len(self._tail.data) + size <= SEGMENT_BYTES

    def grow(self, data: bytes) -> None:
        """Takes over data for the end of the last object; everything before must have been settled."""
        assert self._tail is not None  # noqa: S101
        self._tail.write(self._tail.data + data)

    def begin(self, data: bytes) -> None:
        """Takes over data that begin the next object; everything before must have been settled."""
        self._number += 1
        self._tail = Cell(self._store, self._name(self._number))
        self._tail.write(data)

    def settle(self) -> None:
        """Brings what was written to the store; raises as `Cell.settle`."""
        if self._tail:
            self._tail.settle()

    def take_over(self, fence: Callable[[bytes], bytes], count: int) -> None:
        """Makes this the chain's only writer.

        Args:
          fence: makes, from what the last object holds (empty without one), the bytes that are added to it, and that
            the next one begins with. They must be unlike those of any other writer.
          count: the objects that the chain is known to have.

        Raises:
          StorageError: the store failed; call again later.
        """
        number, last = count - 1, b""
        while True:
            if number >= 0:
                found = self._close(number, fence)
                if found.data == fence(found.data):  # It was created by a call before this one.
                    self._adopt(number, found)
                    return
                last = found.data
            own = fence(last)
            try:
                version = self._store.create(self._name(number + 1), own)
            except ConflictError:
                number += 1  # The predecessor was faster, or an answer was lost.
                continue
            self._adopt(number + 1, Found(own, version))
            return

    def _adopt(self, number: int, found: Found) -> None:
        self._number = number
        self._tail = Cell(self._store, self._name(number), found.data, found.version)

    def _close(self, number: int, fence: Callable[[bytes], bytes]) -> Found:
        """Adds the fence to an object, so that its writer's next write to it fails; returns what it held before."""
        key = self._name(number)
        while True:
            found = self._store.get(key)
            if found is None:
                raise UnreachableError(f"{self._store.url}/{key} should be there and is not")
            own = fence(found.data)
            if found.data.endswith(own):  # A call before this one did it.
                return found
            try:
                self._store.append(key, found.data, own, found.version)
            except ConflictError:
                continue
            return found
