"""Blocks of objects kept on this machine's disk, the least recently used dropped first.

Any number of processes may share a folder. Each block is a file of its own, named by what it is of: address, version
and place. Its content is believed only if its checksum, which the name goes into, is right. A file called `bytes`, held
by a lock while it is changed, says how much there is; where it is wrong, after a kill, the next clearing finds out.
"""

import contextlib
import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
from absl import logging

from trainer.core.exit_codes import UsageError
from trainer.sources.files.file import File

BLOCK = 128 * 2**10  # Bytes. A request for 800 takes from a store about as long as one for these.
_KEPT_SHARE = 0.9  # What a clearing leaves.
_TOUCHED_SECONDS = 60.0  # A block that is used is marked as used at most so often.
_UNFINISHED = ".new"
_CHECKSUM = struct.Struct("<I")


class DiskCache:
    """A bounded cache of blocks in a folder."""

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int) -> None:
        """Makes the folder.

        Raises:
          UsageError: it cannot be made or written to.
        """
        self._folder, self._max_bytes = Path(folder), max_bytes
        self._broken = False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._bytes_file():
                pass
        except OSError as error:
            raise UsageError(
                f"the data cache {self._folder} cannot be written to ({error.strerror}); make room or name "
                "another folder"
            ) from None

    def get(self, file: File, block: int) -> bytes | None:
        """A block; None when it is not there, or is damaged."""
        name = _name(file, block)
        path = self._path(name)
        try:
            with path.open("rb") as opened:
                content = opened.read()
                written = os.fstat(opened.fileno()).st_mtime
        except OSError:
            return None
        expected = min(BLOCK, file.size - block * BLOCK)
        data = content[_CHECKSUM.size :]
        if len(data) != expected or content[: _CHECKSUM.size] != _checksum(name, data):
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        if time.time() - written > _TOUCHED_SECONDS:
            with contextlib.suppress(OSError):
                os.utime(path)
        return data

    def put(self, file: File, block: int, data: bytes) -> None:
        """Keeps a block, if there is room; another that was used longer ago may have to go."""
        size = len(data) + _CHECKSUM.size
        if self._broken or size > self._max_bytes:
            return
        name = _name(file, block)
        path = self._path(name)
        try:
            if path.exists():
                return
            path.parent.mkdir(exist_ok=True)
            with self._bytes_file() as counted:  # Counted before it is there: at no time is there too much.
                total = _read_total(counted)
                if total is None or total + size > self._max_bytes:
                    total = self._clear(size) - size
                _write_total(counted, total + size)
                new = path.with_name(f"{name}{_UNFINISHED}")
                new.write_bytes(_checksum(name, data) + data)
                new.replace(path)
        except OSError as error:
            self._broken = True
            logging.warning(
                "data cache: %s cannot be written to (%s); nothing more is kept", self._folder, error.strerror
            )

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name[2:]

    def _clear(self, more: int) -> int:
        """Drops what was used longest ago, until there is room for `more` bytes; returns how many there are with it."""
        found: list[tuple[float, int, str]] = []
        for folder in os.scandir(self._folder):
            if folder.is_dir() and len(folder.name) == 2:
                for entry in os.scandir(folder.path):
                    with contextlib.suppress(OSError):
                        status = entry.stat()
                        # Whoever writes holds the lock, which is held here: the writer of this one was killed.
                        used = 0.0 if entry.name.endswith(_UNFINISHED) else status.st_mtime
                        found.append((used, status.st_size, entry.path))
        total = more + sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= max(self._max_bytes * _KEPT_SHARE, more):
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size
        return total

    @contextlib.contextmanager
    def _bytes_file(self) -> Iterator[int]:
        """The file that says how many bytes there are, locked."""
        descriptor = os.open(self._folder / "bytes", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _name(file: File, block: int) -> str:
    what = f"{file.url}\n{file.size}\n{file.version}\n{block}"
    return hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()[:48]


def _checksum(name: str, data: bytes) -> bytes:
    return _CHECKSUM.pack(google_crc32c.extend(google_crc32c.value(name.encode()), data))


def _read_total(descriptor: int) -> int | None:
    try:
        return int(os.pread(descriptor, 32, 0))
    except ValueError:  # It is new, or damaged.
        return None


def _write_total(descriptor: int, total: int) -> None:
    os.pwrite(descriptor, b"%-31d\n" % total, 0)
