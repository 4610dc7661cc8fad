"""Files that are whole or not there, and on the disk once they are: written under a hidden name, then renamed.

And files that are made beside the run first, where there may be no room for them.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trainer.core.exit_codes import OutputError


def remove_unfinished(folder: Path, pattern: str) -> None:
    """Removes what a process that was killed while it wrote has left of files of such names; nobody may be writing."""
    for left in folder.glob(f".{pattern}"):
        left.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that it is either whole and on disk, or not there.

    Raises:
      OSError: it could not be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path)


def link_whole(whole: Path, path: Path, content: bytes) -> None:
    """Gives a file that is whole a second name, at once and without more room; where that cannot be, writes it again.

    Raises:
      OSError: it could not be written.
    """
    temporary = path.with_name(f".{path.name}")
    try:
        temporary.unlink(missing_ok=True)
        temporary.hardlink_to(whole)
        temporary.replace(path)
    except OSError:  # Not every file system has links.
        write_whole(path, content)
        return
    _sync_folder(path)


@contextlib.contextmanager
def temporary_room(what: str) -> Iterator[None]:
    """In the block something is made in the folder for temporary files, and that folder may be full.

    Raises:
      OutputError: it is, whether Python says so or TensorFlow, which raises the same where a GPU's memory is full.
    """
    full = os.strerror(errno.ENOSPC)
    try:
        yield
    except Exception as error:
        if full not in str(error):
            raise
        raise OutputError(
            f"{what}: {tempfile.gettempdir()}, where it is made, cannot be written to ({full}); make room, or name "
            "another folder by TMPDIR in the environment"
        ) from None


def _sync_folder(path: Path) -> None:
    """Brings to the disk that a file has its name."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
