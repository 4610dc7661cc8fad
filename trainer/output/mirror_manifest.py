"""`mirror.json`, the object that says who mirrors a run and which of its checkpoints can be had.

A checkpoint is there once the manifest names it, and it is named only when it is stored whole.
"""

import dataclasses
import json
from typing import Any

from trainer.core.exit_codes import DataError
from trainer.core.run_dir import MANIFEST
from trainer.output.segments import Cell, SupersededError
from trainer.output.stores.store import Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
    """A file in the store."""

    file: str  # Its name.
    size: int  # In bytes.
    sha256: str


class Manifest:
    """The newest state of `mirror.json`, which only its owner changes."""

    def __init__(self, store: Store, owner: str) -> None:
        self._store = store
        self._owner = owner
        self._cell = Cell(store, MANIFEST)
        self.checkpoints: tuple[Stored, ...] = ()  # Oldest first.
        self.swept = False  # No older ones than it names are in the store.

    def take_over(self) -> None:
        """Names this owner in it, so that the one before cannot change it any more.

        Raises:
          DataError: it is no manifest.
          StorageError: the store failed; call again later.
        """
        while True:
            found = self._store.get(MANIFEST)
            if found:
                self.checkpoints = self._parse(found.data)
            self._cell = (
                Cell(self._store, MANIFEST, found.data, found.version) if found else Cell(self._store, MANIFEST)
            )
            try:
                self.write(self.checkpoints)
                return
            except SupersededError:  # It was changed between reading and writing.
                continue

    def write(self, checkpoints: tuple[Stored, ...]) -> None:
        """Brings a new list of checkpoints to the store.

        Raises:
          SupersededError: another mirror has taken over.
          StorageError: the store failed; call again later.
        """
        self.settle()
        text = json.dumps({"owner": self._owner, "checkpoints": [dataclasses.asdict(each) for each in checkpoints]})
        if text.encode() != self._cell.data:
            self.swept = False
            self._cell.write(text.encode())
            self.settle()

    def settle(self) -> None:
        """Brings the last list that was written to the store, if it is not known to be there; raises as `write`."""
        self._cell.settle()
        if self._cell.data:
            self.checkpoints = self._parse(self._cell.data)

    def check(self) -> None:
        """Makes sure that this owner is still the one.

        Raises:
          SupersededError: another mirror has taken over.
        """
        found = self._store.get(MANIFEST)
        if found is None or json.loads(found.data).get("owner") != self._owner:
            raise SupersededError(
                f"{self._store.url}/{MANIFEST} names another owner: another agent has taken over this run, and this "
                "one stops writing to it"
            )

    def _parse(self, data: bytes) -> tuple[Stored, ...]:
        try:
            value: Any = json.loads(data)
            return tuple(Stored(**each) for each in value["checkpoints"])
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"{self._store.url}/{MANIFEST} is not what a mirror writes; the output must be the folder of this run "
                "alone"
            ) from None
