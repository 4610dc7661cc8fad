"""What the chief writes into the run directory, and its objects in the store: everything but the workers' logs."""

import contextlib
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from trainer.core.run_dir import (
    ATTEMPTS,
    CHECKPOINTS,
    CODE,
    EVENT_FOLDERS,
    RESULT,
    final_files,
    newest_checkpoint,
    profile_files,
)
from trainer.output.mirror.event_stream import EventStream
from trainer.output.mirror.growing_file import GrowingFile
from trainer.output.mirror.mirror_manifest import MirrorManifest
from trainer.output.mirror.stored_checkpoints import put_checkpoint
from trainer.output.mirror.whole_files import put_and_read_back, put_file
from trainer.output.outage import Growing, waiting_bytes
from trainer.output.owned_object import SupersededError
from trainer.output.stores.store import Store


class ChiefCopy:
    """Copies events, attempts.jsonl, checkpoints and what the run ends with.

    Every method that copies raises
      SupersededError: another agent has taken the run over;
      StorageError: the store failed; nothing is lost, call again later.
    """

    def __init__(self, store: Store, run_dir: Path, *, say: Callable[[str], None]) -> None:
        """Nothing is asked of the store yet; `say` takes a sentence for a person."""
        self._store, self._run_dir = store, run_dir
        owner, now = uuid.uuid4().hex, time.time()
        self.manifest = MirrorManifest(store, owner)
        self.streams = tuple(
            EventStream(store, run_dir, folder, owner=owner, wall_time=now, warn=say) for folder in EVENT_FOLDERS
        )
        self.attempts = GrowingFile(store, run_dir, ATTEMPTS)
        self._checkpoint: str | None = None  # The newest checkpoint whose events are all stored.
        self._code_kept = False
        self._profiled: set[str] = set()  # The files of profiles that are stored.
        self._verified: set[str] = set()  # The final files that were stored and read back.

    @property
    def growing(self) -> list[Growing]:
        """What is copied while it grows."""
        return [*self.streams, self.attempts]

    def copy_events(self) -> bool:
        """Copies the events; returns whether another checkpoint may be copied now."""
        newest = newest_checkpoint(self._run_dir)  # Its events were on disk before it was.
        for stream in self.streams:
            stream.flush()
        changed = newest != self._checkpoint
        self._checkpoint = newest
        return changed

    def copy_attempts(self) -> None:
        """Copies attempts.jsonl."""
        try:
            self.attempts.flush()
        except SupersededError:
            self.manifest.check_owner()
            # This agent owns the run: its predecessor wrote one more line after `attempts` was read.
            self.attempts.resume()
            self.attempts.flush()

    def copy_code(self) -> None:
        """Copies the code that was sent with the run, once; it does not change."""
        if not self._code_kept and (self._run_dir / CODE).exists():
            put_file(self._store, self.manifest, self._run_dir, CODE)
            self._code_kept = True

    def copy_checkpoint(self) -> None:
        """Copies the newest checkpoint whose events are all stored."""
        if self._checkpoint:
            put_checkpoint(self._store, self.manifest, self._run_dir, self._checkpoint)

    def copy_profiles(self) -> None:
        """Copies the profiles of steps that are new."""
        for key in profile_files(self._run_dir):
            if key not in self._profiled:
                put_file(self._store, self.manifest, self._run_dir, key)
                self._profiled.add(key)

    def copy_final_files(self) -> None:
        """Copies what the run ends with, once the run has ended."""
        if not (self._run_dir / RESULT).exists():
            return
        for key in self._final_files_missing():
            put_and_read_back(self._store, self.manifest, self._run_dir, key)
            self._verified.add(key)

    def missing(self) -> list[str]:
        """What the store lacks, for a person; any thread may ask."""
        missing = [f"{size} bytes of {stream.folder}/" for stream in self.streams if (size := waiting_bytes(stream))]
        if waiting_bytes(self.attempts):
            missing.append(ATTEMPTS)
        with contextlib.suppress(OSError):  # The disk may be what fails.
            if not self._code_kept and (self._run_dir / CODE).exists():
                missing.append(CODE)
            newest = newest_checkpoint(self._run_dir)
            if newest and all(checkpoint.file != newest for checkpoint in self.manifest.checkpoints):
                missing.append(f"{CHECKPOINTS}/{newest}")
            missing += [key for key in profile_files(self._run_dir) if key not in self._profiled]
            missing += self._final_files_missing()
        return missing

    def _final_files_missing(self) -> list[str]:
        return [key for key in final_files(self._run_dir) if key not in self._verified]
