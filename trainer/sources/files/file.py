"""A file of data: where it is, and which version of it."""

import dataclasses
import os

from trainer.core.exit_codes import UsageError
from trainer.core.safe_text import redacted
from trainer.output.stores.opening import SCHEMES


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """A local file or an object. Whoever reads it gets these bytes, or an error when it was changed."""

    url: str  # A path, gs://bucket/key or s3://bucket/key.
    size: int  # Bytes.
    version: str  # The ETag or generation that the store gives it; of a local file the time of its last change, in ns.

    @property
    def is_local(self) -> bool:
        """Whether it is on a disk of this machine, or mounted."""
        return "://" not in self.url

    @property
    def name(self) -> str:
        """Its name, without the folder."""
        return self.url.rpartition("/")[2]


def split(url: str) -> tuple[str, str, str]:
    """Scheme, bucket and key of an address; the scheme of a path is empty, and all of it is the key.

    Raises:
      UsageError: it has a scheme that is not read, or lacks the bucket.
    """
    url = os.fspath(url)
    scheme, found, rest = url.partition("://")
    if not found:
        return "", "", url
    bucket, _, key = rest.partition("/")
    if scheme not in SCHEMES or not bucket or "@" in bucket:
        raise UsageError(
            f"{redacted(url)!r} is no address of data; expected a path, gs://bucket/path or s3://bucket/path"
        )
    return scheme, bucket, key


def join(folder: str, name: str) -> str:
    """The address of what lies in a folder."""
    return f"{folder.rstrip('/')}/{name}" if folder.strip("/") else f"{folder}{name}"
