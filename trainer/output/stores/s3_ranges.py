"""Ranges of objects in s3://."""

import re
from collections.abc import Iterator

import obstore
from obstore import exceptions

from trainer.output.stores.errors import MissingError, UnreachableError
from trainer.output.stores.ranges import Entry
from trainer.output.stores.s3 import S3Store
from trainer.output.stores.s3_client import check_bucket


class S3Ranges(S3Store):
    """The `Ranges` of a bucket of S3."""

    def describe(self, key: str) -> Entry:
        """See `Ranges`. It reads a byte: the answer to a HEAD has no body that would say why it is refused."""
        with self._translated_errors(key):
            try:
                meta = obstore.get(self._client, key, options={"range": (0, 1)}).meta
            except FileNotFoundError as error:
                raise self._missing(key, error) from None
            except exceptions.BaseError as error:
                if "<Code>InvalidRange</Code>" not in str(error):
                    raise
                meta = obstore.head(self._client, key)  # It is empty.
            return Entry(key, meta["size"], meta["e_tag"] or "")

    def entries(self, folder: str) -> Iterator[Entry]:
        """See `Ranges`."""
        with self._translated_errors(folder):
            for batch in obstore.list(self._client, folder or None):
                for meta in batch:
                    yield Entry(meta["path"], meta["size"], meta["e_tag"] or "")

    def read(self, key: str, start: int, size: int, version: str) -> bytes:
        """See `Ranges`."""
        with self._translated_errors(key):
            try:
                options: obstore.GetOptions = {"range": (start, start + size)}
                if version:
                    options["if_match"] = version
                data = bytes(obstore.get(self._client, key, options=options).bytes())
            except FileNotFoundError as error:
                raise self._missing(key, error) from None
            if not data:
                raise UnreachableError(f"{self.url}/{key}: got no bytes from byte {start} on")
            return data

    def _missing(self, key: str, error: Exception) -> Exception:
        """What a 404 is: a missing object, or whatever else the server says with it."""
        check_bucket(self.url, error)
        return MissingError(f"{self.url}/{key}: there is no such object") if _is_missing(error) else error


def _is_missing(error: Exception) -> bool:
    code = re.search(r"<Code>([^<]*)", str(error))
    return code is None or code[1].startswith("NoSuch")
