"""gs://: Google Cloud Storage through google-cloud-storage.

Composition appends: what is new is uploaded as an object of its own, then the store joins the two.
"""

import contextlib
import os
import threading
import uuid
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # It tells of Python versions of the future and of packages that it can do without.
    import google.auth.exceptions
    import requests
    import urllib3
    from google.api_core import exceptions
    from google.cloud import storage

from trainer.output.stores.errors import (
    ConflictError,
    MissingError,
    NoBucketError,
    RefusedError,
    StorageError,
    UnreachableError,
)
from trainer.output.stores.store import PART_BYTES, PIECES, TIMEOUT_SECONDS, StoredObject, join

ONCE: dict[str, Any] = {"timeout": (5.0, TIMEOUT_SECONDS), "retry": None}


class GoogleStore:
    """A `storage.Store` in a bucket of Google Cloud Storage."""

    def __init__(self, bucket: str, path: str) -> None:
        self.url = f"gs://{join(bucket, path)}" if path else f"gs://{bucket}"
        self._name, self._path = bucket, path
        self._opened: storage.Bucket | None = None
        self._opening = threading.Lock()
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")  # It asks for what nobody uses.
        with contextlib.suppress(StorageError):
            self._bucket()

    def get(self, key: str) -> StoredObject | None:
        with self._errors(key):
            blob = self._sized(key)
            if blob is None:
                return None
            size, generation = int(blob.size), int(blob.generation)
            written = blob.updated.timestamp() if blob.updated else 0.0
            return StoredObject(self._part(key, generation, 0, size), str(generation), written)

    def create(self, key: str, data: bytes) -> str:
        return self._put(key, data, 0)

    def swap(self, key: str, data: bytes, version: str) -> str:
        return self._put(key, data, int(version))

    def append(self, key: str, old: bytes, new: bytes, version: str) -> str:  # noqa: ARG002
        piece = f"{PIECES}{uuid.uuid4().hex}"
        self._put(piece, new, 0)
        blob = self._blob(key)
        try:
            with self._errors(key):
                # The store joins nothing unless the object has the version given, and so has that as its first part.
                blob.compose([self._blob(key), self._blob(piece)], if_generation_match=int(version), **ONCE)
                return _version(blob)
        finally:
            with contextlib.suppress(StorageError):  # Who next takes over the run deletes what is left.
                self.delete(piece)

    def version(self, key: str) -> str | None:
        with self._errors(key):
            blob = self._sized(key)
            return str(blob.generation) if blob else None

    def upload(self, key: str, path: Path, *, replace: str | None = None) -> None:
        blob = self._blob(key)
        with path.open("rb") as file, self._errors(key):
            if path.stat().st_size > PART_BYTES:
                blob.chunk_size = PART_BYTES
            blob.upload_from_file(file, if_generation_match=int(replace or 0), checksum="crc32c", **ONCE)

    def stream(self, key: str) -> Iterator[bytes]:
        with self._errors(key):
            blob = self._sized(key)
            if blob is None:
                raise MissingError(f"{self.url}/{key}: there is no such object")
            size, generation = int(blob.size), int(blob.generation)
            for start in range(0, size, PART_BYTES):
                yield self._part(key, generation, start, min(PART_BYTES, size - start))

    def delete(self, key: str) -> None:
        with self._errors(key):
            try:
                self._blob(key).delete(**ONCE)
            except exceptions.NotFound as error:
                self._check_bucket(error)

    def keys(self, prefix: str) -> Iterable[str]:
        start = len(self._path) + 1 if self._path else 0
        with self._errors(prefix):
            listed = self._bucket().list_blobs(
                prefix=join(self._path, prefix), fields="items(name),nextPageToken", **ONCE
            )
            try:
                return [blob.name[start:] for blob in listed]
            except exceptions.NotFound:
                raise NoBucketError(f"{self.url}: there is no such bucket") from None

    def _sized(self, key: str) -> storage.Blob | None:
        """The object with what the store knows of it; None when there is none."""
        blob = self._blob(key)
        try:
            blob.reload(**ONCE)
        except exceptions.NotFound as error:
            self._check_bucket(error)
            return None
        return blob

    def _part(self, key: str, generation: int, start: int, size: int) -> bytes:
        """A part of an object."""
        if size == 0:
            return b""
        blob = self._blob(key)
        changed = f"{self.url}/{key} was changed while it was read"
        try:
            data = bytes(
                blob.download_as_bytes(
                    raw_download=True, start=start, end=start + size - 1, if_generation_match=generation, **ONCE
                )
            )
        except (exceptions.NotFound, exceptions.PreconditionFailed):
            raise UnreachableError(changed) from None
        if int(blob.generation or generation) != generation:  # The emulator passes over the condition.
            raise UnreachableError(changed)
        if len(data) != size:  # To the client, an answer that was cut off within its head looks whole.
            raise UnreachableError(f"{self.url}/{key}: got {len(data)} bytes of {size}")
        return data

    def _blob(self, key: str) -> storage.Blob:
        return self._bucket().blob(join(self._path, key))

    def _bucket(self) -> storage.Bucket:
        """The bucket, as one client knows it, which is made as soon as there are credentials: they can come late."""
        with self._opening:
            if self._opened is None:
                with self._errors(""):
                    try:
                        # Not every kind of credentials names a project, and only making a bucket needs one.
                        self._opened = storage.Client(project=None).bucket(self._name)
                    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
                        raise RefusedError(f"{self.url}: these are no credentials: {_gist(error)}") from None
            return self._opened

    def _put(self, key: str, data: bytes, generation: int | None) -> str:
        blob = self._blob(key)
        with self._errors(key):
            try:
                blob.upload_from_string(data, if_generation_match=generation, checksum="crc32c", **ONCE)
            except exceptions.NotFound:
                raise NoBucketError(f"{self.url}: there is no such bucket") from None
            return _version(blob)

    def _check_bucket(self, error: Exception) -> None:
        if "bucket" in str(error).lower() and "does not exist" in str(error).lower():
            raise NoBucketError(f"{self.url}: there is no such bucket") from None

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Turns the client's exceptions into those of `store`."""
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
        except (exceptions.Forbidden, exceptions.Unauthorized) as error:
            raise RefusedError(f"{what}: {_gist(error)}") from None
        except (google.auth.exceptions.DefaultCredentialsError, google.auth.exceptions.RefreshError) as error:
            raise RefusedError(f"{what}: {_gist(error)}") from None
        except (
            exceptions.GoogleAPIError,
            google.auth.exceptions.GoogleAuthError,
            requests.exceptions.RequestException,
            storage.exceptions.InvalidResponse,
            storage.exceptions.DataCorruption,
            urllib3.exceptions.HTTPError,
            ConnectionError,
        ) as error:
            raise UnreachableError(f"{what}: {_gist(error)}") from None
        except (AttributeError, KeyError, TypeError, ValueError):  # So the client takes an answer that was cut off.
            raise UnreachableError(f"{what}: the answer makes no sense") from None


def _version(blob: storage.Blob) -> str:
    """What a write has answered; TypeError or AttributeError where that answer was cut off."""
    return str(int(blob.generation))


def _gist(error: Exception) -> str:
    """What went wrong in one short line: the client's texts repeat the address and go on for pages."""
    if isinstance(error, requests.exceptions.RequestException):
        return type(error).__name__
    code = getattr(error, "code", None)
    message = getattr(error, "message", None) or str(error)
    text = message.rpartition(": ")[2] if "http" in message else message
    return f"{int(code)} {text}"[:300] if code else text.replace("\n", " ")[:300]
