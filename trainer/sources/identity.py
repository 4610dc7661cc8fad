"""What a data set is known by: its files as the store names and numbers them; no byte of them is read for it."""

import hashlib
from collections.abc import Iterable
from typing import Any

from trainer.sources.files import File

_NAMED = 100  # Files that are listed one by one; it is part of every checkpoint.


def of_files(kind: str, files: Iterable[File], length: int, **settings: Any) -> dict[str, Any]:
    """What a resume compares.

    Args:
      kind: which reader.
      files: in their order.
      length: how many examples.
      settings: what else changes what is read, as JSON has it.
    """
    named = [(file.url, file.size, file.version) for file in files]
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


def digest(entries: Iterable[tuple[str, int, str]]) -> str:
    """A checksum over names, sizes and versions."""
    found = hashlib.sha256()
    for name, size, version in entries:
        found.update(f"{name}\n{size}\n{version}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()
