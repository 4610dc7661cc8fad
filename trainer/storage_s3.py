"""s3://: Amazon S3 and the servers that speak its protocol, through obstore.

It cannot append, so `append` sends the object whole.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import obstore
from obstore import exceptions
from obstore.store import S3Store as Client

from trainer.storage import (
    PART_BYTES,
    TIMEOUT_SECONDS,
    ConflictError,
    Found,
    MissingError,
    NoBucketError,
    RefusedError,
    StorageError,
    UnreachableError,
    join,
)


class S3Store:
    """A `storage.Store` in a bucket of S3."""

    def __init__(self, bucket: str, path: str, environ: Mapping[str, str]) -> None:
        self.url = f"s3://{join(bucket, path)}" if path else f"s3://{bucket}"
        self._path = path
        endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or environ.get("S3_ENDPOINT")
        if endpoint and "://" not in endpoint:
            endpoint = f"https://{endpoint}"
        with self._errors(""):
            self._client = Client(
                bucket,
                config={"endpoint": endpoint} if endpoint else None,
                client_options={
                    "allow_http": True,
                    "connect_timeout": "5s",
                    "timeout": timedelta(seconds=TIMEOUT_SECONDS),
                },
                retry_config={"max_retries": 0},
            )

    def get(self, key: str) -> Found | None:
        """See `storage.Store`."""
        with self._errors(key):
            try:
                result = obstore.get(self._client, join(self._path, key))
                meta = result.meta
                return Found(bytes(result.bytes()), meta["e_tag"] or "", meta["last_modified"].timestamp())
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None

    def create(self, key: str, data: bytes) -> str:
        """See `storage.Store`."""
        return self._put(key, data, "create")

    def swap(self, key: str, data: bytes, version: str) -> str:
        """See `storage.Store`."""
        return self._put(key, data, {"e_tag": version})

    def append(self, key: str, old: bytes, new: bytes, version: str) -> str:
        """See `storage.Store`."""
        return self.swap(key, old + new, version)

    def upload(self, key: str, path: Path, *, replace: bool = False) -> None:
        """See `storage.Store`."""
        with path.open("rb") as file, self._errors(key):
            if path.stat().st_size <= PART_BYTES:
                self._put(key, file.read(), "overwrite" if replace else "create")
                return
            # An upload in parts knows no precondition: the check comes before it.
            target = join(self._path, key)
            if not replace and self._exists(target):
                raise ConflictError(f"{self.url}/{key} exists already")
            parts = max(PART_BYTES, 5 * 2**20)  # S3 takes no smaller parts.
            obstore.put(self._client, target, file, use_multipart=True, chunk_size=parts, max_concurrency=1)

    def stream(self, key: str) -> Iterator[bytes]:
        """See `storage.Store`."""
        with self._errors(key):
            try:
                result = obstore.get(self._client, join(self._path, key))
            except FileNotFoundError as error:
                self._check_bucket(error)
                raise MissingError(f"{self.url}/{key}: there is no such object") from None
            for chunk in result.stream(min_chunk_size=2**20):
                yield bytes(chunk)

    def delete(self, key: str) -> None:
        """See `storage.Store`."""
        with self._errors(key):
            try:
                obstore.delete(self._client, join(self._path, key))
            except FileNotFoundError as error:
                self._check_bucket(error)

    def keys(self, prefix: str) -> Iterable[str]:
        """See `storage.Store`."""
        start = len(self._path) + 1 if self._path else 0
        with self._errors(prefix):
            # The client lists whole folders only.
            folder, _, _ = join(self._path, prefix).rpartition("/")
            found = [entry["path"][start:] for batch in obstore.list(self._client, folder or None) for entry in batch]
        return [key for key in found if key.startswith(prefix)]

    def _exists(self, path: str) -> bool:
        try:
            obstore.head(self._client, path)
        except FileNotFoundError:
            return False
        return True

    def _put(self, key: str, data: bytes, mode: str | dict[str, str]) -> str:
        with self._errors(key):
            try:
                result = obstore.put(self._client, join(self._path, key), data, mode=mode, use_multipart=False)  # type: ignore[arg-type]
                return result["e_tag"] or ""
            except FileNotFoundError as error:
                self._check_bucket(error)
                raise ConflictError(f"{self.url}/{key} is gone") from None

    def _check_bucket(self, error: Exception) -> None:
        if "NoSuchBucket" in str(error):
            raise NoBucketError(f"{self.url}: there is no such bucket") from None

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Turns the client's exceptions into those of `trainer.storage`."""
        what = join(self.url, key) if key else self.url
        try:
            yield
        except StorageError:
            raise
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise ConflictError(f"{what} is not the version that was expected") from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise RefusedError(f"{what}: {_gist(error)}") from None
        except FileNotFoundError as error:
            self._check_bucket(error)
            raise UnreachableError(f"{what}: {_gist(error)}") from None
        except exceptions.BaseError as error:
            self._check_bucket(error)
            if "169.254." in str(error):  # The client's last resort is an instance's role.
                raise RefusedError(
                    f"{what}: no credentials were found (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web identity, "
                    "or an instance's role)"
                ) from None
            refused = re.search(
                r"status code: 40[13] |<Code>(ExpiredToken|InvalidAccessKeyId|SignatureDoes)", str(error)
            )
            raise (RefusedError if refused else UnreachableError)(f"{what}: {_gist(error)}") from None


def _gist(error: Exception) -> str:
    """What the server said, in one short line: the client's texts repeat the request and go on for pages."""
    text = str(error)
    code, message = re.search(r"<Code>([^<]*)", text), re.search(r"<Message>([^<]*)", text)
    if code:
        return f"{code[1]}: {message[1]}" if message else code[1]
    first = text.partition("\n\nDebug source")[0].strip().replace("\n", " ")
    return re.sub(r"https?://\S+\?\S*", "(address)", first)[:300]
