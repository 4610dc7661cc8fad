"""A small file that grows by whole lines, and the object that is kept equal to it: attempts.jsonl, a worker's log."""

import contextlib
from pathlib import Path

from trainer.output.owned_object import OwnedObject
from trainer.output.stores.store import Store


class GrowingFile:
    """The file of a key below the run directory, and the object of that key."""

    def __init__(self, store: Store, run_dir: Path, key: str) -> None:
        self.key = key
        self._store, self._path = store, run_dir / key
        self._object = OwnedObject(store, key)

    def resume(self) -> None:
        """Goes on from what the store has, and writes it to the disk when there is no such file.

        Raises:
          StorageError: the store failed; call again later.
        """
        stored = self._store.get(self.key)
        if stored is None:
            self._object = OwnedObject(self._store, self.key)
            return
        self._object = OwnedObject(self._store, self.key, stored.data, stored.version)
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(stored.data)

    def flush(self) -> None:
        """Brings the whole lines of the file to the store; raises as `OwnedObject.flush`."""
        self._object.flush()
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        lines = data[: data.rfind(b"\n") + 1]
        if lines != self._object.data:
            self._object.write(lines)
            self._object.flush()

    def backlog(self) -> int:
        """The bytes that are not in the store yet."""
        with contextlib.suppress(FileNotFoundError):
            return max(self._path.stat().st_size - len(self._object.data), 0) + self._object.waiting_bytes()
        return 0
