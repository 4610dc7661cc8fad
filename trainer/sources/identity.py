"""What a data set is known by: its files as the store names and numbers them; it is not read for that."""

import hashlib
from collections.abc import Iterable
from typing import Any

import google_crc32c

from trainer.sources.files import File, each, read_many

_SAMPLE = 4096  # Bytes.
_NAMED = 100  # Files that are listed one by one; it is part of every checkpoint.


def of_files(kind: str, files: Iterable[File], length: int, **settings: Any) -> dict[str, Any]:
    """What a resume compares.

    Args:
      kind: which reader.
      files: in their order.
      length: how many examples.
      settings: what else changes what is read, as JSON has it.
    """
    files = list(files)
    named = [(file.url, file.size, version) for file, version in zip(files, each(_version, files), strict=True)]
    identity = {"kind": kind, "length": length, **settings}
    identity |= {"files": len(named), "bytes": sum(size for _, size, _ in named)}
    if len(named) <= _NAMED:
        return {**identity, "each": [{"file": url, "size": size, "version": version} for url, size, version in named]}
    return {**identity, "sha256": digest(named)}


def _version(file: File) -> str:
    """The store's own. A local file has none that a copy of it would share: a checksum of a few places in it."""
    if not file.is_local:
        return file.version
    starts = sorted({max(0, place) for place in (0, (file.size - _SAMPLE) // 2, file.size - _SAMPLE)})
    sampled = b"".join(read_many([(file, start, min(_SAMPLE, file.size - start)) for start in starts]))
    return f"crc32c:{google_crc32c.value(sampled):08x}"


def digest(entries: Iterable[tuple[str, int, str]]) -> str:
    """A checksum over names, sizes and versions."""
    found = hashlib.sha256()
    for name, size, version in entries:
        found.update(f"{name}\n{size}\n{version}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()
