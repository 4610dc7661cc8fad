"""A log in an object store: a row of numbered objects, the segments, of which only the last one grows.

One writer at a time extends it. A successor takes the segments over by adding a fence to the last one and by creating
the next one: the predecessor's next write fails, whichever of the two it goes to, and tells it that it was superseded.
"""

from collections.abc import Callable

from trainer.output.owned_object import OwnedObject
from trainer.output.stores.errors import ConflictError, UnreachableError
from trainer.output.stores.store import Store, StoredObject

SEGMENT_BYTES = 256 * 2**10  # A segment grows to this size, or to that of its first write where that is larger.


class Segments:
    """The segments of one log, as their writer knows them."""

    def __init__(self, store: Store, key: Callable[[int], str]) -> None:
        """Nothing is asked of the store yet.

        Args:
          store: the objects of the run.
          key: makes the key of a segment out of its number, from 0.
        """
        self._store, self._key = store, key
        self._last: OwnedObject | None = None
        self.count = 0

    def waiting_bytes(self) -> int:
        """The bytes that were written and are not known to be in the store."""
        return self._last.waiting_bytes() if self._last else 0

    def has_room(self, size: int) -> bool:
        """Whether the last segment can take that many bytes more."""
        return self._last is not None and len(self._last.data) + size <= SEGMENT_BYTES

    def extend_last(self, data: bytes) -> None:
        """Adds data to the last segment; `flush` brings them to the store, and must have succeeded before."""
        assert self._last is not None  # noqa: S101
        self._last.write(self._last.data + data)

    def begin_next(self, data: bytes) -> None:
        """Begins the next segment with data; `flush` brings them to the store, and must have succeeded before."""
        self._last = OwnedObject(self._store, self._key(self.count))
        self._last.write(data)
        self.count += 1

    def flush(self) -> None:
        """Brings what was written to the store; raises as `OwnedObject.flush`."""
        if self._last:
            self._last.flush()

    def take_over(self, fence: Callable[[bytes], bytes], count: int) -> bytes:
        """Makes this the only writer of the segments.

        Args:
          fence: makes the bytes that end the last segment of the predecessor and begin the next one, from what the last
            one holds (empty where there is none). The same content makes the same fence, unlike any other writer's.
          count: the number of segments that are known to be there.

        Returns:
          What the last segment holds now.

        Raises:
          StorageError: the store failed; call again later.
        """
        while True:
            predecessors = b""
            if count:
                last = self._fenced(self._key(count - 1), fence)
                if last.data == fence(last.data):  # It is nothing but the fence: a call before this one created it.
                    return self._adopt(count, last)
                predecessors = last.data
            first = fence(predecessors)
            try:
                version = self._store.create(self._key(count), first)
            except ConflictError:  # The predecessor was faster, or the answer to this very request was lost once.
                count += 1
                continue
            return self._adopt(count + 1, StoredObject(first, version))

    def _adopt(self, count: int, last: StoredObject) -> bytes:
        self.count = count
        self._last = OwnedObject(self._store, self._key(count - 1), last.data, last.version)
        return last.data

    def _fenced(self, key: str, fence: Callable[[bytes], bytes]) -> StoredObject:
        """Adds the fence to a segment, unless a call before has done so; returns what it held when it was read."""
        while True:
            segment = self._store.get(key)
            if segment is None:
                raise UnreachableError(f"{self._store.url}/{key} should be there and is not")
            end = fence(segment.data)
            if segment.data.endswith(end):
                return segment
            try:
                self._store.append(key, segment.data, end, segment.version)
            except ConflictError:  # The predecessor has added something meanwhile.
                continue
            return segment
