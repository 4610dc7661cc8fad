"""s3://: Amazon S3 and the servers that speak its protocol, through obstore.

S3 cannot append, so `append` sends the whole object.
"""

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore import exceptions
from obstore.store import S3Store as Client

from trainer.output.stores import store
from trainer.output.stores.errors import ConflictError, MissingError, StorageError, TooLargeError, UnreachableError
from trainer.output.stores.s3_client import (
    check_bucket,
    check_credentials,
    client,
    endpoint_of,
    translated_errors,
)
from trainer.output.stores.store import PART_BYTES, PIECES, TIMEOUT_SECONDS, StoredObject, join

if TYPE_CHECKING:
    from obstore import GetOptions, PutMode

WHOLE_BYTES = 16 * 2**20  # A file up to this size is sent in one request, which takes memory of its size.
# For a request that carries a file, or a part of one. The client limits the time of the whole request: a file of
# WHOLE_BYTES takes this long at 70 kB/s.
LARGE_SECONDS = 240.0


class S3Store:
    """A `Store` in a bucket of S3."""

    def __init__(self, bucket: str, path: str, environ: Mapping[str, str]) -> None:
        """Opens the objects below a path in a bucket; no path means all of it.

        Raises:
          UsageError: the endpoint or a credential in the environment can never work.
        """
        self.url = f"s3://{join(bucket, path)}" if path else f"s3://{bucket}"
        self._path = path
        self._pieces: set[str] = set()  # Keys of temporary objects of this process, which are to be deleted.
        check_credentials(environ)
        endpoint = endpoint_of(environ)
        with self._translated_errors(""):
            self._client = client(bucket, endpoint, TIMEOUT_SECONDS)
            self._slow_client = client(bucket, endpoint, LARGE_SECONDS)

    def get(self, key: str) -> StoredObject | None:
        with self._translated_errors(key):
            try:
                result = obstore.get(self._client, join(self._path, key))
                meta = result.meta
                if meta["size"] > store.MOST_BYTES:
                    raise TooLargeError(join(self.url, key), meta["size"], store.MOST_BYTES)
                return StoredObject(bytes(result.bytes()), meta["e_tag"] or "", meta["last_modified"].timestamp())
            except FileNotFoundError as error:
                check_bucket(self.url, error)
                return None

    def create(self, key: str, data: bytes) -> str:
        return self._put(key, data, "create")

    def swap(self, key: str, data: bytes, version: str) -> str:
        return self._put(key, data, {"e_tag": version})

    def append(self, key: str, old: bytes, new: bytes, version: str) -> str:
        return self.swap(key, old + new, version)

    def version(self, key: str) -> str | None:
        with self._translated_errors(key):
            try:
                return obstore.head(self._client, join(self._path, key))["e_tag"] or ""
            except FileNotFoundError:
                return None

    def upload(self, key: str, path: Path, *, replace: str | None = None) -> None:
        size = path.stat().st_size
        # A server that refuses a request may close the connection while the body is on its way, so that its answer is
        # lost: ask for the version first.
        self._check_version(key, replace)
        if size <= WHOLE_BYTES:
            self._put(key, path.read_bytes(), "create" if replace is None else {"e_tag": replace}, self._slow_client)
            return
        # This client knows no condition for an upload in parts, but it knows one for a copy within the store.
        piece = f"{PIECES}{uuid.uuid4().hex}"
        self._pieces.add(piece)
        source, target = join(self._path, piece), join(self._path, key)
        try:
            with path.open("rb") as file, self._translated_errors(key):
                part_size = max(PART_BYTES, 5 * 2**20)  # S3 takes no smaller parts.
                obstore.put(
                    self._slow_client, source, file, use_multipart=True, chunk_size=part_size, max_concurrency=1
                )
                # It knows none for a copy that replaces an object: another writer has the moment between two requests.
                if replace is not None:
                    self._check_version(key, replace)
                obstore.copy(self._slow_client, source, target, overwrite=replace is not None)
        finally:
            for leftover in [*self._pieces]:  # The store may be away now, and may have been the last time.
                with contextlib.suppress(StorageError):
                    self.delete(leftover)
                    self._pieces.discard(leftover)

    def stream(self, key: str) -> Iterator[bytes]:
        start, size = 0, 1
        version: str | None = None
        while start < size:
            with self._translated_errors(key):
                data, size, version = self._read_part(key, start, version)
            yield data
            start += len(data)

    def delete(self, key: str) -> None:
        with self._translated_errors(key):
            try:
                obstore.delete(self._client, join(self._path, key))
            except FileNotFoundError as error:
                check_bucket(self.url, error)

    def keys(self, prefix: str) -> Iterable[str]:
        start = len(self._path) + 1 if self._path else 0
        with self._translated_errors(prefix):
            # The client lists only whole folders.
            folder, _, _ = join(self._path, prefix).rpartition("/")
            keys = [entry["path"][start:] for batch in obstore.list(self._client, folder or None) for entry in batch]
        return [key for key in keys if key.startswith(prefix)]

    def children(self) -> tuple[list[str], list[str]]:
        start = len(self._path) + 1 if self._path else 0
        with self._translated_errors(""):
            listed = obstore.list_with_delimiter(self._client, self._path or None)
        folders = [prefix.rstrip("/")[start:] for prefix in listed["common_prefixes"]]
        return folders, [entry["path"][start:] for entry in listed["objects"]]

    def _check_version(self, key: str, version: str | None) -> None:
        if self.version(key) != version:
            raise ConflictError(f"{self.url}/{key} is not the version that was expected")

    def _read_part(self, key: str, start: int, version: str | None) -> tuple[bytes, int, str | None]:
        """Reads a part of an object from `start` on, of that version if one is given.

        Returns:
          The part, and the size and version of the object.
        """
        options: GetOptions = {"range": (start, start + PART_BYTES)}
        if version is not None:
            options["if_match"] = version
        try:
            result = obstore.get(self._slow_client, join(self._path, key), options=options)
            meta, data = result.meta, bytes(result.bytes())
        except FileNotFoundError as error:
            check_bucket(self.url, error)
            raise MissingError(f"{self.url}/{key}: there is no such object") from None
        except exceptions.PreconditionError:
            raise UnreachableError(f"{self.url}/{key} was changed while it was read") from None
        except exceptions.BaseError as error:
            if "<Code>InvalidRange</Code>" in str(error) and start == 0:  # The object is empty.
                return b"", 0, None
            raise
        if len(data) != min(PART_BYTES, meta["size"] - start):
            raise UnreachableError(f"{self.url}/{key}: got {len(data)} bytes from byte {start} on of {meta['size']}")
        return data, meta["size"], meta["e_tag"]

    def _put(self, key: str, data: bytes, mode: "PutMode", client: Client | None = None) -> str:
        client = client or self._client
        with self._translated_errors(key):
            try:
                result = obstore.put(client, join(self._path, key), data, mode=mode, use_multipart=False)
                return result["e_tag"] or ""
            except FileNotFoundError as error:
                check_bucket(self.url, error)
                raise ConflictError(f"{self.url}/{key} is gone") from None

    def _translated_errors(self, key: str) -> contextlib.AbstractContextManager[None]:
        return translated_errors(self.url, join(self.url, key) if key else self.url)
