"""One object in a store that only one writer changes, though another program may believe to be that writer.

The object is created only if absent and changed only by compare-and-swap, so the next write of a writer that was
superseded fails, and tells it so.

An answer may be lost after the store has done what it was asked. So a write that failed is repeated as it was, until it
is known to be done, before anything else is written: it can take effect only once, however late it arrives.
"""

from trainer.core.exit_codes import OutputError
from trainer.output.stores.errors import ConflictError, UnreachableError
from trainer.output.stores.store import Store


class SupersededError(OutputError):
    """Another program writes where only this one should."""


class OwnedObject:
    """One object and what its writer knows of it. Each `write` is followed by `flush`, until that succeeds."""

    def __init__(self, store: Store, key: str, data: bytes = b"", version: str | None = None) -> None:
        self.key = key
        self.data = data  # The content that the object has once `flush` has returned.
        self._store = store
        self._stored = data  # The content that it is known to have.
        self._version = version  # The version that it is known to have; None: there is no such object.
        self._flushed = True

    def write(self, data: bytes) -> None:
        """Takes the new content; `flush` brings it to the store. The content before must have been flushed."""
        assert self._flushed, "the write before this one is not flushed"  # noqa: S101
        self.data, self._flushed = data, False

    def flush(self) -> None:
        """Brings the content to the store, if it is not there yet.

        Raises:
          SupersededError: somebody else changed the object.
          StorageError: the store failed; call again later.
        """
        if self._flushed:
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
            version = self._version_after_conflict()
        self._version, self._stored, self._flushed = version, self.data, True

    def waiting_bytes(self) -> int:
        """The bytes that were written and are not known to be in the store."""
        return abs(len(self.data) - len(self._stored))

    def _version_after_conflict(self) -> str:
        """The object's version, if the conflict was with this writer's own write, whose answer was lost."""
        stored = self._store.get(self.key)
        if stored and stored.data == self.data:
            return stored.version
        if (stored.version if stored else None) == self._version:
            raise UnreachableError(
                f"{self._store.url}/{self.key}: the store reports a conflict, but nobody changed the object"
            )
        raise SupersededError(
            f"{self._store.url}/{self.key} was {'changed' if stored else 'removed'} by somebody else: another agent "
            "has taken over this run, and this one stops writing to it"
        )
