"""A run's checkpoints to and from an object store; which of them are there, the mirror's manifest says."""

from pathlib import Path

from trainer.core.exit_codes import DataError
from trainer.core.run_dir import CHECKPOINTS, checkpoint_names, checkpoint_step
from trainer.output.mirror_manifest import MirrorManifest
from trainer.output.stores.store import Store
from trainer.output.whole_files import fetch_file, put_file


def put_checkpoint(store: Store, manifest: MirrorManifest, run_dir: Path, name: str) -> None:
    """Stores a checkpoint, then names it in the manifest, then deletes those that are not on disk any more.

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
        on_disk = set(checkpoint_names(run_dir))
        manifest.write((*(checkpoint for checkpoint in manifest.checkpoints if checkpoint.file in on_disk), new))
    if not manifest.older_deleted:
        _delete_older(store, manifest, key)


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
        manifest.write(tuple(older))
        store.delete(key)
    return None


def _delete_older(store: Store, manifest: MirrorManifest, newest_key: str) -> None:
    """Deletes the checkpoints before the newest that the manifest does not name.

    Later ones stay: an earlier agent may have left one that is whole.
    """
    manifest.check_owner()  # The manifest was written a while ago: another mirror may name other checkpoints by now.
    named = {f"{CHECKPOINTS}/{checkpoint.file}" for checkpoint in manifest.checkpoints}
    for key in store.keys(f"{CHECKPOINTS}/"):
        is_one = checkpoint_step(key.removeprefix(f"{CHECKPOINTS}/")) is not None  # All else is somebody else's.
        if is_one and key not in named and key < newest_key:
            store.delete(key)
    manifest.older_deleted = True
