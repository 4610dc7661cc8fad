"""Code that is too large for a ConfigMap, on its way through the output: one object for all whose code is the same.

It lies beside the runs, is called by its SHA-256, written once and never changed.
"""

import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from trainer.core.exit_codes import DataError, OutputError, UsageError
from trainer.core.run_dir import sent_code_key
from trainer.core.safe_text import redacted
from trainer.core.shipped_code import MOST_BYTES, digest
from trainer.output.outage import REFUSED_SECONDS, retry_seconds
from trainer.output.stores.errors import (
    AddressError,
    ConflictError,
    MissingError,
    NoBucketError,
    RefusedError,
    StorageError,
)
from trainer.output.stores.opening import open_store
from trainer.output.stores.store import Store

FETCH_SECONDS = 300.0  # For a store that is away to come back; the chart's startupProbe waits for longer.
_ADDRESS = re.compile(f"(.+)/{re.escape(sent_code_key('SHA256'))}".replace("SHA256", "([0-9a-f]{64})"))


def put(output: str, archive: bytes) -> bool:
    """Writes an archive below the output's address; returns whether it was not there yet.

    Raises:
      UsageError: the address, or the environment, names no store.
      StorageError: it could not be written; no part of it is there.
    """
    store, key = open_store(output), sent_code_key(digest(archive))
    if store.version(key) is not None:
        return False
    with tempfile.NamedTemporaryFile() as file:
        file.write(archive)
        file.flush()
        try:
            store.upload(key, Path(file.name))
        except ConflictError:
            if store.version(key) is None:
                raise
            return False  # Another launcher was faster.
    return True


def fetch(
    address: str, *, clock: Callable[[], float] = time.monotonic, wait: Callable[[float], object] = time.sleep
) -> bytes:
    """Reads the archive of an address, as often as it takes.

    Args:
      address: the output's, and the archive's key below it.
      clock: the time in seconds.
      wait: waits for seconds.

    Raises:
      UsageError: the address is none of code, there is no such bucket, or it may not be read.
      DataError: the archive is not there, or is another one.
      OutputError: the store did not answer in time.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UsageError(f"{redacted(address)} is no address of code: it ends in {sent_code_key('<SHA-256>')}")
    store, sha256 = open_store(match[1]), match[2]
    start, failures = clock(), 0
    while True:
        try:
            return _whole(store, sha256)
        except MissingError as error:
            raise DataError(f"{error}; the launcher's --code puts the code there") from None
        except (NoBucketError, AddressError) as error:
            raise UsageError(f"the code cannot be fetched: {error}") from None
        except StorageError as error:
            refused = isinstance(error, RefusedError)
            if clock() - start >= (REFUSED_SECONDS if refused else FETCH_SECONDS):
                kind = UsageError if refused else OutputError
                raise kind(f"the code cannot be fetched: {error}") from None
        wait(retry_seconds(failures, interval=1.0))
        failures += 1


def _whole(store: Store, sha256: str) -> bytes:
    """The archive, if it is the one that it is called."""
    key, parts, size = sent_code_key(sha256), list[bytes](), 0
    for part in store.stream(key):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise DataError(f"{store.url}/{key} is larger than any code that is sent, {MOST_BYTES // 2**20} MiB")
    archive = b"".join(parts)
    if digest(archive) != sha256:
        raise DataError(
            f"{store.url}/{key} is not what was sent: its checksum is another one; delete it and submit again"
        )
    return archive
