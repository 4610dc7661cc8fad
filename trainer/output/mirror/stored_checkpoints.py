"""A run's checkpoints to and from an object store; which of them are there, the mirror's manifest says."""

import contextlib
from pathlib import Path

from trainer.core.exit_codes import DataError
from trainer.core.run_dir import BEST, CHECKPOINTS, best_names, checkpoint_names, checkpoint_step
from trainer.output.mirror.mirror_manifest import Fingerprint, MirrorManifest
from trainer.output.mirror.whole_files import fetch_file, put_file
from trainer.output.stores.store import Store


def put_checkpoint(store: Store, manifest: MirrorManifest, run_dir: Path, name: str) -> None:
    """Stores a checkpoint, then names it in the manifest, then deletes those that are not on disk any more.

    Those of the best epochs up to its step are stored before it: whoever goes on from it finds them.

    Raises:
      SupersededError: another mirror has taken over.
      StorageError: the store failed; nothing is visible yet, or old ones are still there: call again later.
    """
    key = f"{CHECKPOINTS}/{name}"
    manifest.flush()  # It may name this checkpoint, though the answer was lost: then the checkpoint stays as it is.
    if all(checkpoint.file != name for checkpoint in manifest.checkpoints):
        try:
            new = put_file(store, manifest, run_dir, key)
        except FileNotFoundError:
            return  # It was removed from the disk, so there is a newer one.
        best = _put_best(store, manifest, run_dir, name)
        on_disk = set(checkpoint_names(run_dir))
        manifest.write((*(checkpoint for checkpoint in manifest.checkpoints if checkpoint.file in on_disk), new), best)
    if not manifest.older_deleted:
        _delete_older(store, manifest, name)


def fetch_checkpoint(store: Store, manifest: MirrorManifest, run_dir: Path) -> str | None:
    """Fetches the newest checkpoint that is whole; returns its name, None when the manifest names none.

    Those that are damaged are removed, so that each is stored anew once the run comes to its step again.

    Raises:
      DataError: none of those named is there and whole.
      SupersededError: another mirror has taken over.
      StorageError: the store failed; call again later.
    """
    named = manifest.checkpoints
    while manifest.checkpoints:
        *older, newest = manifest.checkpoints
        key = f"{CHECKPOINTS}/{newest.file}"
        if fetch_file(store, key, run_dir, sha256=newest.sha256):
            return newest.file
        if not older:  # One stays named, so that no later start takes this for a run that has nothing yet.
            raise DataError(
                f"{store.url}/{CHECKPOINTS} holds none of the checkpoints that it should, whole: "
                f"{', '.join(checkpoint.file for checkpoint in named)}"
            )
        manifest.write(tuple(older), manifest.best)
        store.delete(key)
    return None


def fetch_best(store: Store, manifest: MirrorManifest, run_dir: Path) -> list[str]:
    """Fetches the checkpoints of the best epochs; returns the names of those that are damaged, which are given up.

    Raises:
      SupersededError: another mirror has taken over.
      StorageError: the store failed; call again later.
    """
    damaged = [
        checkpoint
        for checkpoint in manifest.best
        if not fetch_file(store, f"{BEST}/{checkpoint.file}", run_dir, sha256=checkpoint.sha256)
    ]
    if damaged:
        manifest.write(manifest.checkpoints, tuple(each for each in manifest.best if each not in damaged))
    return [checkpoint.file for checkpoint in damaged]


def _put_best(store: Store, manifest: MirrorManifest, run_dir: Path, newest: str) -> tuple[Fingerprint, ...]:
    """Stores the checkpoints of the best epochs that are on disk; returns the fingerprints of all that are kept.

    One after the newest waits: its events may not be stored yet.
    """
    stored = {checkpoint.file: checkpoint for checkpoint in manifest.best}
    best = []
    for name in best_names(run_dir):
        if name in stored:
            best.append(stored[name])
        elif name <= newest:
            with contextlib.suppress(FileNotFoundError):  # A better one has taken its place meanwhile.
                best.append(put_file(store, manifest, run_dir, f"{BEST}/{name}"))
    return tuple(best)


def _delete_older(store: Store, manifest: MirrorManifest, newest: str) -> None:
    """Deletes the checkpoints before the newest that the manifest does not name.

    Later ones stay: an earlier agent may have left one that is whole.
    """
    manifest.check_owner()  # The manifest was written a while ago: another mirror may name other checkpoints by now.
    folders = [(CHECKPOINTS, manifest.checkpoints), *([(BEST, manifest.best)] if manifest.best else [])]
    for folder, kept in folders:
        named = {checkpoint.file for checkpoint in kept}
        for key in store.keys(f"{folder}/"):
            name = key.removeprefix(f"{folder}/")
            is_one = checkpoint_step(name) is not None  # All else is somebody else's.
            if is_one and name not in named and name < newest:
                store.delete(key)
    manifest.older_deleted = True
