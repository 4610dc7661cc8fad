"""`mirror.json`, the object that says who mirrors a run and which of its checkpoints can be had.

    {"format": 1, "owner": "<32 hex digits>", "checkpoints": [{"file": ..., "size": ..., "sha256": ...}]}

A checkpoint is named in it only once it is stored whole. 0.1.0 wrote no "format".
"""

import dataclasses
import json
from typing import Any

from trainer.core import formats
from trainer.core.exit_codes import DataError
from trainer.core.run_dir import MANIFEST
from trainer.output.owned_object import OwnedObject, SupersededError
from trainer.output.stores.store import Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a file holds, in short."""

    file: str  # Its name.
    size: int  # In bytes.
    sha256: str


class MirrorManifest:
    """The newest state of `mirror.json`, which only its owner changes."""

    def __init__(self, store: Store, owner: str) -> None:
        """Nothing is asked of the store yet; no two mirrors have the same owner."""
        self._store, self._owner = store, owner
        self._url = f"{store.url}/{MANIFEST}"
        self._object = OwnedObject(store, MANIFEST)
        self.checkpoints: tuple[Fingerprint, ...] = ()  # Oldest first.
        self.older_deleted = False  # Whether the store is known to have no older checkpoints than it names.

    def take_over(self) -> None:
        """Names this owner in it, so that the one before cannot change it any more.

        Raises:
          DataError: it is no manifest, or one of a newer format.
          StorageError: the store failed; call again later.
        """
        while True:
            stored = self._store.get(MANIFEST)
            if stored:
                self.checkpoints = self._checkpoints_in(stored.data)
                self._object = OwnedObject(self._store, MANIFEST, stored.data, stored.version)
            else:
                self._object = OwnedObject(self._store, MANIFEST)
            try:
                self.write(self.checkpoints)
                return
            except SupersededError:  # It was changed between reading and writing.
                continue

    def write(self, checkpoints: tuple[Fingerprint, ...]) -> None:
        """Brings a new list of checkpoints to the store.

        Raises:
          SupersededError: another mirror has taken over.
          StorageError: the store failed; call again later.
        """
        self.flush()
        value = {
            formats.KEY: formats.MANIFEST,
            "owner": self._owner,
            "checkpoints": [dataclasses.asdict(checkpoint) for checkpoint in checkpoints],
        }
        data = json.dumps(value).encode()
        if data != self._object.data:
            self.older_deleted = False
            self._object.write(data)
            self.flush()

    def flush(self) -> None:
        """Brings the last list that was written to the store, if it is not known to be there; raises as `write`."""
        self._object.flush()
        if self._object.data:
            self.checkpoints = self._checkpoints_in(self._object.data)

    def check_owner(self) -> None:
        """Makes sure that this owner is still the one that the store knows.

        Raises:
          SupersededError: another mirror has taken over.
          StorageError: the store failed; call again later.
        """
        stored = self._store.get(MANIFEST)
        if stored is None or json.loads(stored.data).get("owner") != self._owner:
            raise SupersededError(
                f"{self._url} names another owner: another agent has taken over this run, and this one stops writing "
                "to it"
            )

    def _checkpoints_in(self, data: bytes) -> tuple[Fingerprint, ...]:
        foreign = DataError(f"{self._url} is not what a mirror writes; the output must be the folder of this run alone")
        try:
            value: Any = json.loads(data)
        except ValueError:
            raise foreign from None
        if not isinstance(value, dict):
            raise foreign
        formats.version(value, formats.MANIFEST, what=self._url)
        try:
            return tuple(Fingerprint(**entry) for entry in value["checkpoints"])
        except (KeyError, TypeError):
            raise foreign from None
