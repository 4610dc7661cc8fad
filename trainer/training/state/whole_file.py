"""Files that are whole or not there, and on the disk once they are: written under a hidden name, then renamed."""

import contextlib
import os
from pathlib import Path


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


def _sync_folder(path: Path) -> None:
    """Brings to the disk that a file has its name."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
