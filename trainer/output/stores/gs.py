"""gs://: Google Cloud Storage through google-cloud-storage.

It appends by composition: the new bytes are uploaded as an object of their own, then the store joins the two.
"""

import contextlib
import os
import re
import threading
import uuid
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # The client warns of future Python versions and of packages that it does not need.
    import google.auth.exceptions
    import requests
    import urllib3
    from google.api_core import exceptions
    from google.cloud import storage

from trainer.output.stores import store
from trainer.output.stores.errors import (
    AddressError,
    ConflictError,
    CredentialsError,
    MissingError,
    NoBucketError,
    RefusedError,
    StorageError,
    TooLargeError,
    UnreachableError,
)
from trainer.output.stores.store import PART_BYTES, PIECES, TIMEOUT_SECONDS, StoredObject, join

# What Google says to a clock that is off, and of a token that was good until now: another pod may do better.
_PASSING = re.compile("short-lived token|[Ee]xpired|iat and exp")
# For every request. The timeouts are for the connection and for a silence; the client tries nothing again by itself.
REQUEST_OPTIONS: dict[str, Any] = {"timeout": (5.0, TIMEOUT_SECONDS), "retry": None}


class GoogleStore:
    """A `Store` in a bucket of Google Cloud Storage."""

    def __init__(self, bucket: str, path: str) -> None:
        """Opens the objects below a path in a bucket; no path means all of it."""
        self.url = f"gs://{join(bucket, path)}" if path else f"gs://{bucket}"
        self._bucket_name, self._path = bucket, path
        self._known_bucket: storage.Bucket | None = None
        self._lock = threading.Lock()
        # Otherwise the client asks for the bucket's metadata, for traces that nobody collects here.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        with contextlib.suppress(StorageError):  # The credentials may not be there yet; the next request looks again.
            self._bucket()

    def get(self, key: str) -> StoredObject | None:
        with self._translated_errors(key):
            blob = self._with_metadata(key)
            if blob is None:
                return None
            size, generation = int(blob.size), int(blob.generation)
            if size > store.MOST_BYTES:
                raise TooLargeError(join(self.url, key), size, store.MOST_BYTES)
            written = blob.updated.timestamp() if blob.updated else 0.0
            return StoredObject(self._read_part(key, generation, 0, size), str(generation), written)

    def create(self, key: str, data: bytes) -> str:
        return self._put(key, data, 0)

    def swap(self, key: str, data: bytes, version: str) -> str:
        return self._put(key, data, int(version))

    def append(self, key: str, old: bytes, new: bytes, version: str) -> str:  # noqa: ARG002
        piece = f"{PIECES}{uuid.uuid4().hex}"
        self._put(piece, new, 0)
        blob = self._blob(key)
        try:
            with self._translated_errors(key):
                # The store joins nothing unless the object has the version given, and so has that as its first part.
                blob.compose([self._blob(key), self._blob(piece)], if_generation_match=int(version), **REQUEST_OPTIONS)
                return _new_version(blob)
        finally:
            with contextlib.suppress(StorageError):  # The next takeover of the run deletes what is left.
                self.delete(piece)

    def version(self, key: str) -> str | None:
        with self._translated_errors(key):
            blob = self._with_metadata(key)
            return str(blob.generation) if blob else None

    def upload(self, key: str, path: Path, *, replace: str | None = None) -> None:
        blob = self._blob(key)
        with path.open("rb") as file, self._translated_errors(key):
            if path.stat().st_size > PART_BYTES:
                blob.chunk_size = PART_BYTES
            condition = {"if_generation_match": int(replace or 0)}
            try:
                blob.upload_from_file(file, **condition, checksum="crc32c", **REQUEST_OPTIONS)
            except exceptions.NotFound:  # Where an object is gone, the condition fails.
                raise NoBucketError(f"{self.url}: there is no such bucket") from None

    def stream(self, key: str) -> Iterator[bytes]:
        with self._translated_errors(key):
            blob = self._with_metadata(key)
            if blob is None:
                raise MissingError(f"{self.url}/{key}: there is no such object")
            size, generation = int(blob.size), int(blob.generation)
            for start in range(0, size, PART_BYTES):
                yield self._read_part(key, generation, start, min(PART_BYTES, size - start))

    def delete(self, key: str) -> None:
        with self._translated_errors(key):
            try:
                self._blob(key).delete(**REQUEST_OPTIONS)
            except exceptions.NotFound as error:
                self._check_bucket(error)

    def keys(self, prefix: str) -> Iterable[str]:
        start = len(self._path) + 1 if self._path else 0
        with self._translated_errors(prefix):
            listed = self._bucket().list_blobs(
                prefix=join(self._path, prefix), fields="items(name),nextPageToken", **REQUEST_OPTIONS
            )
            try:
                return [blob.name[start:] for blob in listed]
            except exceptions.NotFound:
                raise NoBucketError(f"{self.url}: there is no such bucket") from None

    def children(self) -> tuple[list[str], list[str]]:
        prefix = f"{self._path}/" if self._path else ""
        with self._translated_errors(""):
            listed = self._bucket().list_blobs(
                prefix=prefix, delimiter="/", fields="items(name),prefixes,nextPageToken", **REQUEST_OPTIONS
            )
            try:
                objects = [blob.name[len(prefix) :] for blob in listed]
            except exceptions.NotFound:
                raise NoBucketError(f"{self.url}: there is no such bucket") from None
            return [folder[len(prefix) :].rstrip("/") for folder in listed.prefixes], objects

    def _with_metadata(self, key: str) -> storage.Blob | None:
        """The object with its size and generation; None when there is none."""
        blob = self._blob(key)
        try:
            blob.reload(**REQUEST_OPTIONS)
        except exceptions.NotFound as error:
            self._check_bucket(error)
            return None
        return blob

    def _read_part(self, key: str, generation: int, start: int, size: int) -> bytes:
        """Reads a part of an object, of that generation."""
        if size == 0:
            return b""
        blob = self._blob(key)
        changed = f"{self.url}/{key} was changed while it was read"
        try:
            data = bytes(
                blob.download_as_bytes(
                    raw_download=True,
                    start=start,
                    end=start + size - 1,
                    if_generation_match=generation,
                    **REQUEST_OPTIONS,
                )
            )
        except (exceptions.NotFound, exceptions.PreconditionFailed):
            raise UnreachableError(changed) from None
        if int(blob.generation or generation) != generation:  # The tests' emulator ignores the condition.
            raise UnreachableError(changed)
        if len(data) != size:  # The client takes an answer for whole that was cut off within its head.
            raise UnreachableError(f"{self.url}/{key}: got {len(data)} bytes of {size}")
        return data

    def _blob(self, key: str) -> storage.Blob:
        return self._bucket().blob(join(self._path, key))

    def _bucket(self) -> storage.Bucket:
        """The bucket, with a client that is made as soon as there are credentials: they can come late."""
        with self._lock:
            if self._known_bucket is None:
                with self._translated_errors(""):
                    try:
                        self._known_bucket = self._client().bucket(self._bucket_name)
                    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
                        raise CredentialsError(f"{self.url}: these are no credentials: {_one_line(error)}") from None
            return self._known_bucket

    def _client(self) -> storage.Client:
        # Not every kind of credentials names a project, and only creating a bucket needs one.
        return storage.Client(project=None)

    def _put(self, key: str, data: bytes, generation: int) -> str:
        blob = self._blob(key)
        with self._translated_errors(key):
            try:
                blob.upload_from_string(data, if_generation_match=generation, checksum="crc32c", **REQUEST_OPTIONS)
            except exceptions.NotFound:
                raise NoBucketError(f"{self.url}: there is no such bucket") from None
            return _new_version(blob)

    def _check_bucket(self, error: Exception) -> None:
        if "bucket" in str(error).lower() and "does not exist" in str(error).lower():
            raise NoBucketError(f"{self.url}: there is no such bucket") from None

    @contextlib.contextmanager
    def _translated_errors(self, key: str) -> Iterator[None]:
        """Turns the client's exceptions into those of `stores.errors`."""
        what = join(self.url, key) if key else self.url
        try:
            yield
        except StorageError:
            raise
        except exceptions.PreconditionFailed:
            raise ConflictError(f"{what} is not the version that was expected") from None
        except exceptions.NotFound as error:
            self._check_bucket(error)
            raise ConflictError(f"{what} is gone") from None
        except exceptions.Forbidden as error:
            raise RefusedError(f"{what}: {_one_line(error)}") from None
        except exceptions.Unauthorized as error:
            raise CredentialsError(f"{what}: {_one_line(error)}") from None
        except (google.auth.exceptions.DefaultCredentialsError, google.auth.exceptions.RefreshError) as error:
            kind = UnreachableError if _PASSING.search(str(error)) else CredentialsError
            raise kind(f"{what}: {_one_line(error)}") from None
        except exceptions.BadRequest as error:
            said = AddressError if "bucket name" in str(error).lower() else UnreachableError
            raise said(f"{what}: {_one_line(error)}") from None
        except (
            exceptions.GoogleAPIError,
            google.auth.exceptions.GoogleAuthError,
            requests.exceptions.RequestException,
            storage.exceptions.InvalidResponse,
            storage.exceptions.DataCorruption,
            urllib3.exceptions.HTTPError,
            ConnectionError,
        ) as error:
            raise UnreachableError(f"{what}: {_one_line(error)}") from None
        except (AttributeError, KeyError, TypeError, ValueError):  # From the client, when an answer was cut off.
            raise UnreachableError(f"{what}: the answer makes no sense") from None


def _new_version(blob: storage.Blob) -> str:
    """The version that a write answered with; TypeError or AttributeError when that answer was cut off."""
    return str(int(blob.generation))


def _one_line(error: Exception) -> str:
    """What went wrong, in one short line: the client's texts repeat the address and go on for pages."""
    if isinstance(error, requests.exceptions.RequestException):
        return type(error).__name__
    code = getattr(error, "code", None)
    message = getattr(error, "message", None) or str(error)
    text = message.rpartition(": ")[2] if "http" in message else message
    return f"{int(code)} {text}"[:300] if code else text.replace("\n", " ")[:300]
