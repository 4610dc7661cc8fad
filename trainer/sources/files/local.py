"""Local and mounted files: what is there, and ranges of it."""

import collections
import contextlib
import errno
import os
import threading
from collections.abc import Iterator, Sequence

from trainer.core.exit_codes import DataError, UsageError
from trainer.output.stores.errors import ConflictError, MissingError, StorageError, UnreachableError
from trainer.output.stores.ranges import Entry
from trainer.sources.files.file import File
from trainer.sources.files.retries import Retries

MOST_OPEN = 128  # Files kept open; a container's soft limit can be 1,024.
_OPEN_BY_CALL = 16  # And by each call, of which every thread makes one at a time.

# A mounted file system that is away for a while.
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ENOTCONN, errno.EHOSTDOWN, errno.EMFILE}


class _Open:
    """A file's descriptor, closed when nobody holds it: it may leave the kept ones while another thread reads."""

    def __init__(self, file: File) -> None:
        self.descriptor = os.open(file.url, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(self.descriptor)
        if (found.st_size, _version(found)) != (file.size, file.version):
            raise ConflictError(file.url)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self.descriptor)


_kept: "collections.OrderedDict[File, _Open]" = collections.OrderedDict()
_lock = threading.Lock()


def describe(path: str) -> File:
    """Looks at one file.

    Raises:
      DataError: there is none.
      UsageError: it is not to be read.
    """
    retries = Retries(os.path.dirname(path))
    while True:
        try:
            with _translated_errors(path):
                found = os.stat(path)
        except StorageError as error:
            retries.failed(error)
        else:
            return File(path, found.st_size, _version(found))


def read(file: File, start: int, size: int) -> bytes:
    """Reads a range.

    Raises:
      DataError: the file is gone, was changed, or is cut.
    """
    retries = Retries(os.path.dirname(file.url))
    while True:
        try:
            with _translated_errors(file.url):
                return _read(file, start, size)
        except StorageError as error:
            with _lock:
                _kept.pop(file, None)
            retries.failed(error)


def read_many(ranges: Sequence[tuple[File, int, int]]) -> list[bytes]:
    """Reads many ranges; a file is looked for once for all of its own.

    Raises:
      DataError: as `read` does.
    """
    opened: dict[int, _Open] = {}  # By identity, which costs less than comparing what a file is; they stay open.
    found = []
    for file, start, size in ranges:
        try:
            if id(file) not in opened:
                if len(opened) == _OPEN_BY_CALL:
                    opened.clear()
                opened[id(file)] = _opened(file)
            data = os.pread(opened[id(file)].descriptor, size, start)
        except (OSError, StorageError):  # Whatever it is, `read` says it or tries again.
            data = b""
        found.append(data if len(data) == size else read(file, start, size))
    return found


def _read(file: File, start: int, size: int) -> bytes:
    opened = _opened(file)
    data = os.pread(opened.descriptor, size, start)
    while len(data) < size:
        more = os.pread(opened.descriptor, size - len(data), start + len(data))
        if not more:
            raise DataError(f"{file.url}: got {len(data)} bytes of {size} from byte {start} on; it was cut")
        data += more
    return data


def _opened(file: File) -> _Open:
    with _lock:
        opened = _kept.get(file)
        if opened is not None:
            _kept.move_to_end(file)
            return opened
    opened = _Open(file)
    Retries(os.path.dirname(file.url)).succeeded()
    with _lock:
        _kept[file] = opened
        if len(_kept) > MOST_OPEN:
            _kept.popitem(last=False)
    return opened


def entries(folder: str, *, deep: bool) -> Iterator[Entry]:
    """The files below a folder, by their paths below it; those of its own only unless `deep`.

    Raises:
      DataError: there is no such folder.
      UsageError: it is not to be read.
    """
    pending = [""]
    while pending:
        below = pending.pop()
        with _translated_errors(folder), os.scandir(os.path.join(folder, below)) as found:
            for entry in found:
                path = os.path.join(below, entry.name)
                if entry.is_dir():
                    pending += [path] if deep else []
                elif entry.is_file():
                    status = entry.stat()
                    yield Entry(path, status.st_size, _version(status))


def _version(found: os.stat_result) -> str:
    return str(found.st_mtime_ns)


@contextlib.contextmanager
def _translated_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(f"{path}: there is no such file") from None
    except PermissionError:
        raise UsageError(
            f"no right to read {path}: the process runs as user {os.getuid()}, who may not do that"
        ) from None
    except OSError as error:
        if error.errno in _PASSING:
            raise UnreachableError(f"{path}: {error.strerror}") from None
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
