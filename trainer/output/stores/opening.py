"""Opens the store of an address. The clients are large, so each is imported only when a store of its kind is opened."""

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from trainer.core.exit_codes import UsageError
from trainer.core.safe_text import redacted
from trainer.output.stores.ranges import Ranges
from trainer.output.stores.store import Store

SCHEMES = ("gs", "s3")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}[A-Za-z0-9]")  # Of any store; each allows less.


def open_store(url: str, environ: Mapping[str, str] = os.environ, *, run: str = "") -> Store:
    """Opens the objects below `url`, without asking the store anything yet.

    Args:
      url: `gs://bucket/path` (application default credentials, Workload Identity, STORAGE_EMULATOR_HOST) or
        `s3://bucket/path` (AWS_* environment variables, IRSA, an instance's role; AWS_ENDPOINT_URL or S3_ENDPOINT for
        servers that are not Amazon's).
      environ: the environment that the credentials and endpoints are taken from.
      run: the name of a run's folder below it, which may have characters that an address gives a meaning.

    Raises:
      UsageError: it is no such address, or one of no bucket, or the endpoint in the environment is no address.
    """
    scheme, bucket, path = split(url, run=run)
    if scheme == "gs":
        from trainer.output.stores.gs import GoogleStore

        return GoogleStore(bucket, path)
    from trainer.output.stores.s3 import S3Store

    return S3Store(bucket, path, environ)


def split(url: str, *, run: str = "") -> tuple[str, str, str]:
    """Scheme, bucket and path of an address, with the name of a run's folder below it.

    Raises:
      UsageError: it is no such address, or one of no bucket.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
        raise UsageError(
            f"the output {redacted(url)!r} is no address of an object store; expected gs://bucket/path or "
            "s3://bucket/path"
        )
    if not _BUCKET.fullmatch(parts.netloc):
        raise UsageError(
            f"the output {redacted(url)!r} names no bucket: {parts.netloc!r} is no name of 3 to 222 letters, digits, "
            "hyphens, underscores and dots that begins and ends with a letter or a digit"
        )
    path = "/".join(filter(None, (parts.path.strip("/"), run)))
    if path and not all(part.isprintable() and part not in ("", ".", "..") for part in path.split("/")):
        raise UsageError(
            f"the output {redacted(url)!r} has an empty part between its slashes, or a part '.' or '..'; take it out"
        )
    return parts.scheme, parts.netloc, path


def open_ranges(scheme: str, bucket: str, environ: Mapping[str, str] = os.environ) -> Ranges:
    """Opens a bucket, without asking the store anything yet; credentials and endpoints as for `open_store`.

    Raises:
      UsageError: the endpoint or a credential in the environment can never work.
    """
    if scheme == "gs":
        from trainer.output.stores.gs_ranges import GoogleRanges

        return GoogleRanges(bucket, "")
    from trainer.output.stores.s3_ranges import S3Ranges

    return S3Ranges(bucket, "", environ)
