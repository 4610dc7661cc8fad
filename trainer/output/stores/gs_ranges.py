"""Ranges of objects in gs://."""

import contextlib
import warnings
from collections.abc import Iterator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # As in stores/gs.py.
    from google.api_core import exceptions
    from google.cloud import storage
from requests.adapters import HTTPAdapter

from trainer.output.stores.errors import ConflictError, MissingError, NoBucketError, RefusedError, UnreachableError
from trainer.output.stores.gs import REQUEST_OPTIONS, GoogleStore
from trainer.output.stores.ranges import Entry

CONNECTIONS = 64  # That the client keeps; it would keep 10, and open and close all others for each request.


class GoogleRanges(GoogleStore):
    """The `Ranges` of a bucket of Google Cloud Storage."""

    def describe(self, key: str) -> Entry:
        """See `Ranges`."""
        with self._translated_errors(key):
            blob = self._with_metadata(key)
            if blob is None:
                raise MissingError(f"{self.url}/{key}: there is no such object")
            return Entry(key, int(blob.size), str(int(blob.generation)))

    def entries(self, folder: str) -> Iterator[Entry]:
        """See `Ranges`."""
        with self._translated_errors(folder):
            listed = self._bucket().list_blobs(
                prefix=f"{folder}/" if folder else None,
                fields="items(name,size,generation),nextPageToken",
                **REQUEST_OPTIONS,
            )
            try:
                for blob in listed:
                    if not blob.name.endswith("/"):  # Else what some programs make to show a folder.
                        yield Entry(blob.name, int(blob.size), str(int(blob.generation)))
            except exceptions.NotFound:
                raise NoBucketError(f"{self.url}: there is no such bucket") from None

    def read(self, key: str, start: int, size: int, version: str) -> bytes:
        """See `Ranges`."""
        blob = self._blob(key)
        with self._translated_errors(key):
            try:
                data = bytes(
                    blob.download_as_bytes(
                        raw_download=True,
                        start=start,
                        end=start + size - 1,
                        if_generation_match=int(version) if version else None,
                        **REQUEST_OPTIONS,
                    )
                )
            except exceptions.NotFound as error:
                self._check_bucket(error)
                with contextlib.suppress(RefusedError):
                    next(self.entries(key), None)  # It says so where it is the bucket that is not there.
                raise MissingError(f"{self.url}/{key}: there is no such object") from None
            if version and str(blob.generation or version) != version:  # The tests' emulator ignores the condition.
                raise ConflictError(f"{self.url}/{key} is not the version that was expected")
            if not data or len(data) > size:
                raise UnreachableError(f"{self.url}/{key}: got {len(data)} bytes of {size} from byte {start} on")
            return data

    def _client(self) -> storage.Client:
        client = super()._client()
        for scheme in ("https://", "http://"):
            client._http.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS, pool_block=True))
        return client
