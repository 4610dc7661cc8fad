"""What another run has left to go on from: its checkpoints, in its folder on this machine or in a bucket."""

from collections.abc import Iterator

from absl import logging

from trainer.core.exit_codes import DataError
from trainer.core.run_dir import BEST, CHECKPOINTS, checkpoint_step
from trainer.training.data import remote_files
from trainer.training.state.checkpoint import Checkpoint


def newest(run: str) -> Checkpoint | None:
    """The newest whole checkpoint of the run in a folder; None where there are no checkpoints.

    Raises:
      DataError: all of them are damaged, or one cannot be read.
      UsageError, StoreAwayError: its bucket refuses, or does not answer.
    """
    folder = remote_files.join(run, CHECKPOINTS)
    names = _names(folder)
    for name in reversed(names):
        path = remote_files.join(folder, name)
        try:
            return Checkpoint.decode(remote_files.read(path) or b"", name=path)
        except ValueError as error:
            logging.warning("checkpoint %s is damaged (%s); trying the one before", path, error)
    if names:
        raise DataError(f"none of the {len(names)} checkpoint(s) in {folder} is whole; name another run")
    return None


def best(run: str) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the checkpoints of its best epochs; raises as `newest`."""
    folder = remote_files.join(run, BEST)
    for name in _names(folder):
        if content := remote_files.read(remote_files.join(folder, name)):
            yield name, content


def _names(folder: str) -> list[str]:
    return sorted(name for name in remote_files.names(folder) if checkpoint_step(name) is not None)
