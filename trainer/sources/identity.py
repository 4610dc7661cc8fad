"""What a data set is known by: its files as a store names and numbers them; of local ones a sample of their bytes."""

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from trainer.sources.files import File, read

_SAMPLE = 2**14  # Bytes of each end of a local file.
_NAMED = 100  # Files that are listed one by one; it is part of every checkpoint.


def of_files(kind: str, files: Iterable[File], length: int, **settings: Any) -> dict[str, Any]:
    """What a resume compares.

    Args:
      kind: which reader.
      files: in their order.
      length: how many examples.
      settings: what else changes what is read, as JSON has it.
    """
    named = [_known(file) for file in files]
    identity = {
        "kind": kind,
        "length": length,
        **settings,
        "files": len(named),
        "bytes": sum(size for _, size, _ in named),
    }
    if len(named) <= _NAMED:
        return {**identity, "each": [{"file": url, "size": size, "version": version} for url, size, version in named]}
    return {**identity, "sha256": digest(named)}


def _known(file: File) -> tuple[str, int, str]:
    """Name, size and version. The time of a local file's change is no version: each worker may have its own copy."""
    if not file.is_local:
        return file.url, file.size, file.version
    return file.name, file.size, f"crc32 of both ends {_ends(file):08x}"


def sample(files: Sequence[File]) -> str:
    """A checksum over both ends of local files."""
    return f"{zlib.crc32(repr([_ends(file) for file in files]).encode()):08x}"


def _ends(file: File) -> int:
    tail = max(file.size - _SAMPLE, 0)
    return zlib.crc32(read(file, 0, min(file.size, _SAMPLE)) + read(file, tail, file.size - tail))


def digest(entries: Iterable[tuple[str, int, str]]) -> str:
    """A checksum over names, sizes and versions."""
    found = hashlib.sha256()
    for name, size, version in entries:
        found.update(f"{name}\n{size}\n{version}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()
