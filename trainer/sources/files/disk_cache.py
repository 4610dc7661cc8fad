"""Blocks of objects kept on this machine's disk, the least recently used dropped first.

Any number of processes may share a folder. Each block is a file of its own, named by what it is of: address, version
and place. Its content is believed only if its checksum, which the name goes into, is right. A file called `bytes`, held
by a lock while it is changed, says how much there is; where it is wrong, after a kill, the next clearing finds out.

A block's file is the checksums of its pages, a checksum of these and of the name, and the pages: what is wanted of a
block is believed without reading the rest.
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
_PAGE = 4096  # Bytes that have a checksum of their own.
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

    def get(self, file: File, block: int, start: int = 0, end: int = BLOCK) -> bytes | None:
        """The bytes of a block from `start` to before `end`; None when they are not there, or are damaged."""
        name = _name(file, block)
        path = self._path(name)
        size = min(BLOCK, file.size - block * BLOCK)
        end = min(end, size)
        try:
            opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            data = _checked(opened, name, size, start, end)
            unused = time.time() - os.fstat(opened).st_mtime
        except OSError:
            return None
        finally:
            os.close(opened)
        with contextlib.suppress(OSError):
            if data is None:
                os.unlink(path)
            elif unused > _TOUCHED_SECONDS:
                os.utime(path)
        return data

    def put(self, file: File, block: int, data: bytes) -> None:
        """Keeps a block, if there is room; another that was used longer ago may have to go."""
        content = _content(_name(file, block), data)
        size = len(content)
        if self._broken or size > self._max_bytes:
            return
        path = self._path(_name(file, block))
        try:
            if os.path.exists(path):
                return
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with self._bytes_file() as counted:  # Counted before it is there: at no time is there too much.
                total = _read_total(counted)
                if total is None or total + size > self._max_bytes:
                    total = self._clear(size) - size
                _write_total(counted, total + size)
                with open(f"{path}{_UNFINISHED}", "wb") as new:
                    new.write(content)
                os.replace(new.name, path)
        except OSError as error:
            self._broken = True
            logging.warning(
                "data cache: %s cannot be written to (%s); nothing more is kept", self._folder, error.strerror
            )

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name[:2]}/{name[2:]}"

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


def _content(name: str, data: bytes) -> bytes:
    pages = [google_crc32c.value(data[start : start + _PAGE]) for start in range(0, len(data), _PAGE)]
    checksums = struct.pack(f"<{len(pages)}I", *pages)
    return checksums + _CHECKSUM.pack(google_crc32c.value(name.encode() + checksums)) + data


def _checked(opened: int, name: str, size: int, start: int, end: int) -> bytes | None:
    """The wanted bytes of a block of `size` bytes; None where the file is not what was written."""
    pages = -(-size // _PAGE)
    head = os.pread(opened, 4 * pages + _CHECKSUM.size, 0)
    checksums, own = head[: 4 * pages], head[4 * pages :]
    if own != _CHECKSUM.pack(google_crc32c.value(name.encode() + checksums)):
        return None
    first, last = start // _PAGE, -(-end // _PAGE)
    begin = first * _PAGE
    data = os.pread(opened, min(last * _PAGE, size) - begin, len(head) + begin)
    for number in range(first, last):
        page = data[number * _PAGE - begin : (number + 1) * _PAGE - begin]
        if google_crc32c.value(page) != struct.unpack_from("<I", checksums, 4 * number)[0]:
            return None
    return data[start - begin : end - begin] if len(data) >= end - begin else None


def _read_total(descriptor: int) -> int | None:
    try:
        return int(os.pread(descriptor, 32, 0))
    except ValueError:  # It is new, or damaged.
        return None


def _write_total(descriptor: int, total: int) -> None:
    os.pwrite(descriptor, b"%-31d\n" % total, 0)
