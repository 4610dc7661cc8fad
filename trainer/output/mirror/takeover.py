"""The start of a mirror: it takes the run over from whoever mirrored it before, and brings back what the disk lacks."""

import re
from collections.abc import Callable
from pathlib import Path

from trainer.core.run_dir import (
    ATTEMPTS,
    BEST,
    CHECKPOINTS,
    EXPORTS,
    FINAL_FILES,
    RESULT,
    WORKERS,
    best_names,
    checkpoint_names,
    final_files,
    highest_attempt,
    highest_attempt_on_disk,
    is_exported,
    newest_checkpoint,
)
from trainer.output.mirror.chief_copy import ChiefCopy
from trainer.output.mirror.log_copies import LogCopies
from trainer.output.mirror.stored_checkpoints import fetch_best, fetch_checkpoint
from trainer.output.mirror.whole_files import fetch_file
from trainer.output.stores.store import PIECES, Store

_PIECE = re.compile(r"[\w-]+", re.ASCII)


class Takeover:
    """One start, which may take several calls of `run` while the store fails."""

    def __init__(
        self, store: Store, run_dir: Path, *, chief: ChiefCopy | None, logs: LogCopies, say: Callable[[str], None]
    ) -> None:
        """Nothing is asked of the store yet; `chief` is None for any other worker, `say` takes a sentence."""
        self._store, self._run_dir, self._chief, self._logs, self._say = store, run_dir, chief, logs, say
        self._done: set[Callable[..., None]] = set()
        self._highest_attempt = 0

    def run(self) -> int:
        """Does what no call before this one has done.

        Returns:
          The highest number of an attempt that has left a log in the store or on this disk; 0: none has, or this is
          not the chief.

        Raises:
          DataError: what lies in the store is not this run's, or is damaged.
          StorageError: the store failed; call again later.
          OSError: the disk failed.
        """
        if not self._chief:
            self._once(self._logs.resume)
            return 0
        # The predecessor is stopped before anything is read that it could still change.
        self._once(self._chief.manifest.take_over)
        for stream in self._chief.streams:
            self._once(stream.take_over, self._discard_disk)
        self._once(self._delete_pieces)
        self._once(self._logs.resume)
        self._once(self._find_highest_attempt)
        self._once(self._chief.attempts.resume)
        self._once(self._bring_back, self._chief)
        return self._highest_attempt

    def _once(self, step: Callable[..., None], *arguments: object) -> None:
        """Does a step, unless a call before this one has done it."""
        if step not in self._done:
            step(*arguments)
            self._done.add(step)

    def _discard_disk(self) -> None:
        """Empties a disk that comes back with an older state: the run went on elsewhere meanwhile.

        Its newer checkpoints would leave a gap in the events, and its attempts.jsonl lacks what was written since.
        """
        names = checkpoint_names(self._run_dir)
        if names:
            self._say(f"{self._run_dir} holds an older state of this run, up to {names[-1]}, than {self._store.url}")
        if (self._run_dir / ATTEMPTS).exists() and self._store.get(ATTEMPTS):
            (self._run_dir / ATTEMPTS).unlink()
        best = (f"{BEST}/{name}" for name in best_names(self._run_dir))
        for key in [*final_files(self._run_dir), *(f"{CHECKPOINTS}/{name}" for name in names), *best]:
            (self._run_dir / key).unlink(missing_ok=True)

    def _delete_pieces(self) -> None:
        """Deletes the parts of objects that the predecessor left when it was killed."""
        for key in list(self._store.keys(PIECES)):
            if _PIECE.fullmatch(key[len(PIECES) :]):
                self._store.delete(key)

    def _find_highest_attempt(self) -> None:
        stored = highest_attempt(self._store.keys(f"{WORKERS}/"))
        on_disk = highest_attempt_on_disk(self._run_dir)  # Its agent may have died before it stored anything.
        self._highest_attempt = max(stored, on_disk)

    def _bring_back(self, chief: ChiefCopy) -> None:
        """Fetches what a disk without a checkpoint needs: the newest one, the best ones, what the run ended with."""
        if newest_checkpoint(self._run_dir) is not None:
            return
        if self._store.get(RESULT):
            for key in [*filter(is_exported, list(self._store.keys(f"{EXPORTS}/"))), *FINAL_FILES]:
                fetch_file(self._store, key, self._run_dir)
        for damaged in fetch_best(self._store, chief.manifest, self._run_dir):
            self._say(f"{BEST}/{damaged} in {self._store.url} is not whole: it is no longer kept")
        if name := fetch_checkpoint(self._store, chief.manifest, self._run_dir):
            self._say(f"{name} and what led to it were fetched from {self._store.url}")
