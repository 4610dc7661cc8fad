"""`mirror.json`, the object that says who mirrors a run and which of its checkpoints can be had.

    {"format": 1, "owner": "<32 hex digits>", "checkpoints": [{"file": ..., "size": ..., "sha256": ...}], "best": [...]}

A checkpoint is named in it only once it is stored whole. "best" names those of the best epochs, if any are kept. 0.1.0
wrote no "format".
"""

import dataclasses
import json
import re
from typing import Any, Self

from trainer.core import format_versions, typed_json
from trainer.core.exit_codes import DataError
from trainer.core.run_dir import MANIFEST, checkpoint_step
from trainer.core.safe_text import one_line
from trainer.output.owned_object import OwnedObject, SupersededError
from trainer.output.stores.store import Store

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a file holds, in short."""

    file: str  # Its name.
    size: int  # In bytes.
    sha256: str

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Reads a checkpoint's.

        Raises:
          ValueError: it is none. Whoever can write the bucket must not choose which file is written here.
        """
        entry = typed_json.an_object(value, "a checkpoint")
        file, sha256 = typed_json.text(entry, "file"), typed_json.text(entry, "sha256")
        if checkpoint_step(file) is None:
            raise ValueError(f"{file!a} is no checkpoint's name")
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{file} has the checksum {sha256!a}, expected 64 hexadecimal digits")
        return cls(file=file, size=typed_json.whole(entry, "size"), sha256=sha256)


class MirrorManifest:
    """The newest state of `mirror.json`, which only its owner changes."""

    def __init__(self, store: Store, owner: str) -> None:
        """Nothing is asked of the store yet; no two mirrors have the same owner."""
        self._store, self._owner = store, owner
        self._url = f"{store.url}/{MANIFEST}"
        self._object = OwnedObject(store, MANIFEST)
        self.checkpoints: tuple[Fingerprint, ...] = ()  # Oldest first.
        self.best: tuple[Fingerprint, ...] = ()  # Of the best epochs, likewise.
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
                self._read(stored.data)
                self._object = OwnedObject(self._store, MANIFEST, stored.data, stored.version)
            else:
                self._object = OwnedObject(self._store, MANIFEST)
            try:
                self.write(self.checkpoints, self.best)
                return
            except SupersededError:  # It was changed between reading and writing.
                continue

    def write(self, checkpoints: tuple[Fingerprint, ...], best: tuple[Fingerprint, ...]) -> None:
        """Brings new lists of checkpoints to the store, the newest ones and those of the best epochs.

        Raises:
          SupersededError: another mirror has taken over.
          StorageError: the store failed; call again later.
        """
        self.flush()
        value = {
            format_versions.KEY: format_versions.MANIFEST,
            "owner": self._owner,
            "checkpoints": [dataclasses.asdict(checkpoint) for checkpoint in checkpoints],
        }
        if best:
            value["best"] = [dataclasses.asdict(checkpoint) for checkpoint in best]
        data = json.dumps(value).encode()
        if data != self._object.data:
            self.older_deleted = False
            self._object.write(data)
            self.flush()

    def flush(self) -> None:
        """Brings the last list that was written to the store, if it is not known to be there; raises as `write`."""
        self._object.flush()
        if self._object.data:
            self._read(self._object.data)

    def check_owner(self) -> None:
        """Makes sure that this owner is still the one that the store knows.

        Raises:
          SupersededError: another mirror has taken over.
          StorageError: the store failed; call again later.
        """
        stored = self._store.get(MANIFEST)
        if stored is None or not self._names_this_owner(stored.data):
            raise SupersededError(
                f"{self._url} names another owner: another agent has taken over this run, and this one stops writing "
                "to it"
            )

    def _read(self, data: bytes) -> None:
        value = self._value_in(data)
        format_versions.version(value, format_versions.MANIFEST, what=self._url)
        entries, best = value.get("checkpoints"), value.get("best", [])
        if not isinstance(entries, list) or not isinstance(best, list):
            raise self._foreign("it has no list of checkpoints")
        try:
            self.checkpoints = tuple(Fingerprint.from_json(entry) for entry in entries)
            self.best = tuple(Fingerprint.from_json(entry) for entry in best)
        except ValueError as error:
            raise self._foreign(error) from None

    def _names_this_owner(self, data: bytes) -> bool:
        try:
            return self._value_in(data).get("owner") == self._owner
        except DataError:  # Whoever wrote that, it was not this owner.
            return False

    def _value_in(self, data: bytes) -> dict[str, Any]:
        try:
            return typed_json.an_object(typed_json.loads(data), "it")
        except ValueError as error:
            raise self._foreign(error) from None

    def _foreign(self, problem: object) -> DataError:
        return DataError(
            f"{self._url} is not what a mirror writes; the output must be the folder of this run alone "
            f"({one_line(str(problem), 200)})"
        )
