"""A worker's logs, of all its attempts, and their objects in the store."""

import itertools
from collections.abc import Callable
from pathlib import Path

from trainer.core.run_dir import logs_on_disk
from trainer.output.mirror.growing_file import GrowingFile
from trainer.output.outage import waiting_bytes
from trainer.output.owned_object import SupersededError
from trainer.output.stores.store import Store


class LogCopies:
    """Copies `<run_dir>/workers/<worker>/attempt-*.log*`; a log that is stored and no longer grows leaves the disk."""

    def __init__(self, store: Store, run_dir: Path, worker: int, *, warn: Callable[[str], None]) -> None:
        """Nothing is asked of the store yet; `warn` takes a sentence for a person."""
        self._store, self._run_dir, self._worker, self._warn = store, run_dir, worker, warn
        self.files: dict[str, GrowingFile] = {}  # By key, oldest first; only the last one still grows.
        self._given_up: set[str] = set()  # Keys of objects that somebody else writes, too.

    def resume(self) -> None:
        """Goes on with the logs that an earlier agent left on this disk; raises as `GrowingFile.resume`."""
        for key in logs_on_disk(self._run_dir, self._worker):
            self.files[key] = GrowingFile(self._store, self._run_dir, key)
            self.files[key].resume()

    def flush(self) -> None:
        """Copies all that was added to the logs.

        Raises:
          StorageError: the store failed; nothing is lost, call again later.
        """
        keys = logs_on_disk(self._run_dir, self._worker)
        for key, later in itertools.zip_longest(keys, keys[1:]):
            file = self.files.setdefault(key, GrowingFile(self._store, self._run_dir, key))
            if key in self._given_up:
                continue
            try:
                file.flush()
            except SupersededError as error:
                self._given_up.add(key)
                self._warn(f"{error}, as far as this log goes")
                continue
            if later:  # The worker writes to its last log only.
                (self._run_dir / key).unlink()
                del self.files[key]

    def missing(self) -> list[str]:
        """The logs that the store lacks something of; any thread may ask."""
        return [key for key, file in list(self.files.items()) if waiting_bytes(file)]
