"""Side indexes: where the rows of a file begin, for formats that do not say; made once and kept.

An index is a file beside the data, `.NAME.index`, or, where nobody may write there, one in this user's cache. It says
which size and version of the file it is of; of any other it is made anew. Its arrays are mapped, not read.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from absl import logging

from trainer.core import typed_json
from trainer.output.stores.errors import ConflictError, StorageError
from trainer.output.stores.opening import open_store
from trainer.sources.files import File, each
from trainer.sources.files import bucket as buckets
from trainer.sources.files.file import join, split

Arrays = Mapping[str, npt.NDArray[Any]]

_MAGIC = b"trainer-index 1\n"
_ALIGNED = 64
_TYPES = {"<u8", "<u4"}  # Of the arrays.
_AT_A_TIME = 2**20  # Bytes.

_refused: set[str] = set()  # Folders that nobody may write to, as was seen.


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of index, and how it is made."""

    name: str  # With the settings that it depends on.
    build: Callable[[File], Arrays]  # Reads the file.
    is_sound: Callable[[Arrays, File], bool]  # Whether arrays are such as it returns, whoever has written them.


def load(files: Sequence[File], kind: Kind, *, say: Callable[[str], None] = logging.info) -> list[Arrays]:
    """The indexes of files, each read where it is, or made.

    Workers that start together do it together: each takes the files in an order of its own, and looks whether another
    has made an index before it makes one.

    Args:
      files: in any order.
      kind: which index.
      say: told of each index that is made.

    Raises:
      DataError: a file cannot be read, or is not of the format.
    """
    numbers = random.Random().sample(range(len(files)), len(files))
    found = dict(zip(numbers, each(lambda number: _load(files[number], kind, say), numbers), strict=True))
    return [found[number] for number in range(len(files))]


def cache_folder() -> Path:
    """Where indexes are kept that cannot lie beside their data, and copies of those in buckets."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "trainer" / "indexes"


def place(file: File) -> str:
    """The address of the index beside a file."""
    folder, _, name = file.url.rpartition("/")
    return join(folder, f".{name}.index") if folder or file.url.startswith("/") else f".{name}.index"


def _load(file: File, kind: Kind, say: Callable[[str], None]) -> Arrays:
    beside, cached = place(file), _cached(file, kind)
    candidates = [Path(beside), cached] if file.is_local else [cached]
    for path in candidates:
        if (arrays := _mapped(path, file, kind)) is not None:
            return arrays
    if not file.is_local and (stored := buckets.describe(beside)) is not None:
        content = buckets.read(stored, 0, stored.size)
        if _arrays(content, file, kind) is not None:
            return _kept(content, cached, file, kind)
    say(f"making the index of {file.url}")
    content = _content(kind.build(file), file, kind)
    if file.is_local and _write(Path(beside), content):
        return _mapped(Path(beside), file, kind) or _kept(content, cached, file, kind)
    if not file.is_local:
        _upload(beside, content)
    return _kept(content, cached, file, kind)


def _cached(file: File, kind: Kind) -> Path:
    where = file.url if not file.is_local else os.path.abspath(file.url)
    return cache_folder() / hashlib.sha256(f"{where}\n{kind.name}".encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _content(arrays: Arrays, file: File, kind: Kind) -> bytes:
    parts = [np.ascontiguousarray(array).view(np.uint8).data for array in arrays.values()]
    header = {
        "kind": kind.name,
        "size": file.size,
        "version": file.version,
        "arrays": [[name, array.dtype.str, len(array)] for name, array in arrays.items()],
        "crc32c": functools.reduce(_checksum, parts, 0),
    }
    text = _MAGIC + json.dumps(header).encode() + b"\n"
    return b"".join([text, b" " * (-len(text) % _ALIGNED), *parts])


def _checksum(before: int, content: Any) -> int:
    """Goes on with a checksum, a piece at a time: what is mapped need not be in memory as a whole."""
    for at in range(0, len(content), _AT_A_TIME):
        before = google_crc32c.extend(before, bytes(content[at : at + _AT_A_TIME]))
    return before


def _header(content: Any, file: File, kind: Kind) -> tuple[int, list[tuple[str, str, int]]] | None:
    """Where the arrays begin, and which; None where it is no index, damaged, or of another version of the file."""
    head = bytes(content[: 2**16])
    if not head.startswith(_MAGIC):
        return None
    end = head.find(b"\n", len(_MAGIC))
    try:
        header = typed_json.an_object(typed_json.loads(head[len(_MAGIC) : end]), "a header")
        found = header["kind"], header["size"], header["version"]
        arrays = [(str(name), str(kind), int(count)) for name, kind, count in header["arrays"]]
        if not all(kind in _TYPES and count >= 0 for _, kind, count in arrays):
            return None
        size = sum(np.dtype(kind).itemsize * count for _, kind, count in arrays)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    start = -(-(end + 1) // _ALIGNED) * _ALIGNED
    if found != (kind.name, file.size, file.version) or len(content) != start + size:
        return None
    return (start, arrays) if _checksum(0, content[start:]) == header.get("crc32c") else None


def _arrays(content: Any, file: File, kind: Kind) -> Arrays | None:
    header = _header(content, file, kind)
    if header is None:
        return None
    at, described = header
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, dtype, count in described:
        arrays[name] = np.frombuffer(content, dtype, count, at)
        at += arrays[name].nbytes
    return arrays if kind.is_sound(arrays, file) else None


def cut_up(starts: npt.NDArray[Any], pieces: int, size: int) -> bool:
    """Whether so many places and an end cut all of a file of that size into pieces, none of them empty."""
    return (
        len(starts) == pieces + 1
        and int(starts[0]) <= int(starts[-1]) == size
        and bool(np.all(starts[1:] > starts[:-1]))
    )


def _mapped(path: Path, file: File, kind: Kind) -> Arrays | None:
    try:
        if not path.stat().st_size:
            return None
        return _arrays(np.memmap(path, np.uint8, "r"), file, kind)
    except (OSError, ValueError):
        return None


def _kept(content: bytes, path: Path, file: File, kind: Kind) -> Arrays:
    """The arrays, mapped from a copy on this disk; in memory where there is no room for one."""
    found = _mapped(path, file, kind) if _write(path, content, make=True) else None
    found = found if found is not None else _arrays(content, file, kind)
    assert found is not None, f"the index of {file.url} is not what it was made as"  # noqa: S101
    return found


def _write(path: Path, content: bytes, *, make: bool = False) -> bool:
    try:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=".index-")
    except OSError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
        os.chmod(new, 0o644)
        os.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)
        return False
    return True


def _upload(url: str, content: bytes) -> None:
    scheme, bucket, key = split(url)
    folder = url.rpartition("/")[0]
    if folder in _refused:
        return
    store = open_store(f"{scheme}://{bucket}")
    try:
        version = store.version(key)
        if version is None:
            store.create(key, content)
        else:
            store.swap(key, content, version)
    except ConflictError:  # Another worker was quicker.
        return
    except StorageError as error:
        _refused.add(folder)
        logging.info("data: indexes are kept on this machine, since %s", error)
