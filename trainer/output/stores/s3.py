"""s3://: Amazon S3 and the servers that speak its protocol, through obstore.

S3 cannot append, so `append` sends the whole object.
"""

import contextlib
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore import exceptions
from obstore.store import S3Store as Client

from trainer.core.exit_codes import UsageError
from trainer.output.stores.errors import (
    AddressError,
    ConflictError,
    MissingError,
    NoBucketError,
    RefusedError,
    StorageError,
    UnreachableError,
)
from trainer.output.stores.store import PART_BYTES, PIECES, TIMEOUT_SECONDS, StoredObject, join

if TYPE_CHECKING:
    from obstore import GetOptions, PutMode

WHOLE_BYTES = 16 * 2**20  # A file up to this size is sent in one request, which takes memory of its size.
# For a request that carries a file, or a part of one. The client limits the time of the whole request: a file of
# WHOLE_BYTES takes this long at 70 kB/s.
LARGE_SECONDS = 240.0

_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
)  # fmt: skip
# What S3 says to a clock that is off, and of credentials that were good until now.
_PASSING = re.compile("<Code>(RequestTimeTooSkewed|RequestExpired|ExpiredToken|TokenRefreshRequired)")
_MISADDRESSED = re.compile(
    "<Code>(InvalidBucketName|AuthorizationHeaderMalformed|IllegalLocationConstraint)|incorrectly configured region"
)


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
        _check_credentials(environ)
        endpoint = _endpoint(environ)
        with self._translated_errors(""):
            self._client = _client(bucket, endpoint, TIMEOUT_SECONDS)
            self._slow_client = _client(bucket, endpoint, LARGE_SECONDS)

    def get(self, key: str) -> StoredObject | None:
        with self._translated_errors(key):
            try:
                result = obstore.get(self._client, join(self._path, key))
                meta = result.meta
                return StoredObject(bytes(result.bytes()), meta["e_tag"] or "", meta["last_modified"].timestamp())
            except FileNotFoundError as error:
                self._check_bucket(error)
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
                self._check_bucket(error)

    def keys(self, prefix: str) -> Iterable[str]:
        start = len(self._path) + 1 if self._path else 0
        with self._translated_errors(prefix):
            # The client lists only whole folders.
            folder, _, _ = join(self._path, prefix).rpartition("/")
            keys = [entry["path"][start:] for batch in obstore.list(self._client, folder or None) for entry in batch]
        return [key for key in keys if key.startswith(prefix)]

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
            self._check_bucket(error)
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
                self._check_bucket(error)
                raise ConflictError(f"{self.url}/{key} is gone") from None

    def _check_bucket(self, error: Exception) -> None:
        if "NoSuchBucket" in str(error):
            raise NoBucketError(f"{self.url}: there is no such bucket") from None

    @contextlib.contextmanager
    def _translated_errors(self, key: str) -> Iterator[None]:
        """Turns the client's exceptions into those of `stores.errors`."""
        what = join(self.url, key) if key else self.url
        try:
            yield
        except StorageError:
            raise
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise ConflictError(f"{what} is not the version that was expected") from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise _refusal(error)(f"{what}: {_one_line(error)}") from None
        except FileNotFoundError as error:
            self._check_bucket(error)
            raise UnreachableError(f"{what}: {_one_line(error)}") from None
        except exceptions.BaseError as error:
            self._check_bucket(error)
            if "169.254." in str(error):  # Without other credentials, the client asks for an instance's role.
                raise RefusedError(
                    f"{what}: no credentials were found (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web identity, "
                    "or an instance's role)"
                ) from None
            refused = re.search(r"status code: 40[13] |<Code>(InvalidAccessKeyId|SignatureDoes)", str(error))
            kind = _refusal(error) if refused or _MISADDRESSED.search(str(error)) else UnreachableError
            raise kind(f"{what}: {_one_line(error)}") from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # Rust's, of no class that could be imported.
                raise
            raise UnreachableError(f"{what}: the client has failed: {_one_line(error)}") from None


def _client(bucket: str, endpoint: str, seconds: float) -> Client:
    """A client that gives a request so many seconds, and tries it once; an empty endpoint means Amazon's."""
    return Client(
        bucket,
        config={"copy_if_not_exists": "multipart", **({"endpoint": endpoint} if endpoint else {})},
        client_options={"allow_http": True, "connect_timeout": "5s", "timeout": timedelta(seconds=seconds)},
        retry_config={"max_retries": 0},
    )


def _refusal(error: Exception) -> type[StorageError]:
    """What a store means that does not do what it is asked to."""
    if _PASSING.search(str(error)):  # Another pod has another token, and another node another clock.
        return UnreachableError
    return AddressError if _MISADDRESSED.search(str(error)) else RefusedError


def _check_credentials(environ: Mapping[str, str]) -> None:
    """Refuses what no header can carry: the client would panic, or the server would refuse it for ever."""
    for name in _CREDENTIALS:
        value = environ.get(name, "")
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise UsageError(
                f"{name} in the environment ends in a line break, or has a blank around it or a character that is not "
                "visible ASCII (a secret made with `echo` ends in a line break: use `echo -n`)"
            )


def _endpoint(environ: Mapping[str, str]) -> str:
    """The address of the server; empty means Amazon's."""
    name = next((name for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT") if environ.get(name)), "")
    if not name:
        return ""
    endpoint = environ[name] if "://" in environ[name] else f"https://{environ[name]}"
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"\s", endpoint):  # The client would panic.
        # The address is not shown: there may be a password in it.
        raise UsageError(f"{name} in the environment is no address of a server; expected https://host:port")
    return endpoint


def _one_line(error: BaseException) -> str:
    """What the server said, in one short line: the client's texts repeat the request and go on for pages."""
    text = str(error)
    code, message = re.search(r"<Code>([^<]*)", text), re.search(r"<Message>([^<]*)", text)
    if code:
        return f"{code[1]}: {message[1]}" if message else code[1]
    first = text.partition("\n\nDebug source")[0].strip().replace("\n", " ")
    return re.sub(r"https?://\S+\?\S*", "(address)", first)[:300]
