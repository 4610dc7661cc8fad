"""The client of s3://, and what it makes of the environment and of the server's answers."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from urllib.parse import urlsplit

from obstore import exceptions
from obstore.store import S3Store as Client

from trainer.core.exit_codes import UsageError
from trainer.output.stores.errors import (
    AddressError,
    ConflictError,
    CredentialsError,
    NoBucketError,
    RefusedError,
    StorageError,
    UnreachableError,
)

_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
)  # fmt: skip


# What a server says to a key, a secret or a region that is not one of its own. The last is versitygw's, with a 404.
_WRONG_CREDENTIALS = re.compile(
    r"<Code>(InvalidToken|InvalidAccessKeyId|SignatureDoesNotMatch|XAdminUserNotFound)|status code: 401 "
)
# What it says to a clock that is off, and of credentials that were good until now.
_PASSING = re.compile("<Code>(RequestTimeTooSkewed|RequestExpired|ExpiredToken|TokenRefreshRequired)")
_MISADDRESSED = re.compile(
    "<Code>(InvalidBucketName|AuthorizationHeaderMalformed|IllegalLocationConstraint)|incorrectly configured region"
)
# With a query, which holds a signature, or without: it never fails, which would take the square of a text's length.
_ADDRESS = re.compile(r"https?://[^\s?]*(\?\S*)?")


def client(bucket: str, endpoint: str, seconds: float) -> Client:
    """A client that gives a request so many seconds, and tries it once; an empty endpoint means Amazon's."""
    return Client(
        bucket,
        config={"copy_if_not_exists": "multipart", **({"endpoint": endpoint} if endpoint else {})},
        client_options={"allow_http": True, "connect_timeout": "5s", "timeout": timedelta(seconds=seconds)},
        retry_config={"max_retries": 0},
    )


def check_credentials(environ: Mapping[str, str]) -> None:
    """Refuses what no header can carry: the client would panic, or the server would refuse it for ever."""
    for name in _CREDENTIALS:
        value = environ.get(name, "")
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise UsageError(
                f"{name} in the environment ends in a line break, or has a blank around it or a character that is not "
                "visible ASCII (a secret made with `echo` ends in a line break: use `echo -n`)"
            )


def endpoint_of(environ: Mapping[str, str]) -> str:
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


def one_line(error: BaseException) -> str:
    """What the server said, in one short line: the client's texts repeat the request and go on for pages."""
    text = str(error)
    code, message = re.search(r"<Code>([^<]*)", text), re.search(r"<Message>([^<]*)", text)
    if code:
        return f"{code[1]}: {message[1]}" if message else code[1]
    first = text.partition("\n\nDebug source")[0].strip().replace("\n", " ")
    return _ADDRESS.sub(lambda match: "(address)" if match[1] else match[0], first)[:300]


def check_bucket(url: str, error: Exception) -> None:
    """Raises what a missing bucket is, if that is what the server says."""
    if "NoSuchBucket" in str(error):
        raise NoBucketError(f"{url}: there is no such bucket") from None


@contextlib.contextmanager
def translated_errors(url: str, what: str) -> Iterator[None]:
    """Turns the client's exceptions into those of `stores.errors`.

    Args:
      url: the store's address.
      what: the address of what is asked for.
    """
    try:
        yield
    except StorageError:
        raise
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
        raise ConflictError(f"{what} is not the version that was expected") from None
    except (exceptions.BaseError, FileNotFoundError) as error:
        check_bucket(url, error)
        raise _meaning(what, error) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's, of no class that could be imported.
            raise
        raise UnreachableError(f"{what}: the client has failed: {one_line(error)}") from None


def _meaning(what: str, error: Exception) -> StorageError:
    text = str(error)
    if _PASSING.search(text):  # Another pod has another token, and another node another clock.
        return UnreachableError(f"{what}: {one_line(error)}")
    if _MISADDRESSED.search(text):
        return AddressError(f"{what}: {one_line(error)}")
    if _WRONG_CREDENTIALS.search(text) or isinstance(error, exceptions.UnauthenticatedError):
        return CredentialsError(f"{what}: {one_line(error)}")
    if "169.254." in text:  # Without other credentials, the client asks for an instance's role.
        return CredentialsError(
            f"{what}: no credentials were found (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web identity, "
            "or an instance's role)"
        )
    if isinstance(error, exceptions.PermissionDeniedError) or "status code: 403 " in text:
        return RefusedError(f"{what}: {one_line(error)}")
    return UnreachableError(f"{what}: {one_line(error)}")
