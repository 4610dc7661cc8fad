"""An object store in memory that fails when told to, in the ways in which real ones do."""

import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from trainer.output.stores.errors import ConflictError, MissingError, UnreachableError
from trainer.output.stores.store import PIECES, StoredObject

T = TypeVar("T")

WHOLE_BYTES = 30  # A store that is like S3 takes a larger file as an object of another name, and copies that.


@dataclasses.dataclass
class Weather:
    """Decides, request by request, what goes wrong.

    "": nothing; "before": the request is lost; "after": its answer is lost; "late": its answer is lost, and the request
    takes effect only when `MemoryStore.deliver` is called.
    """

    next: Callable[[], str] = lambda: ""


class MemoryStore:
    """A `Store` whose objects several writers can share, each through a store of its own."""

    url = "memory://bucket/run"

    def __init__(
        self, objects: dict[str, StoredObject] | None = None, *, weather: Weather | None = None, etags: bool
    ) -> None:
        self.objects = {} if objects is None else objects
        self.weather = weather or Weather()
        self.etags = etags  # Versions are checksums, as on S3, where the same content has the same version again.
        self.late: list[Callable[[], object]] = []
        self._numbers = itertools.count(1)

    def deliver(self) -> None:
        """Lets the "late" requests take effect."""
        late, self.late = self.late, []
        for act in late:
            with contextlib.suppress(ConflictError, MissingError):
                act()

    def get(self, key: str) -> StoredObject | None:
        return self._request(lambda: self.objects.get(key))

    def create(self, key: str, data: bytes) -> str:
        return self._request(lambda: self._write(key, data, None))

    def swap(self, key: str, data: bytes, version: str) -> str:
        return self._request(lambda: self._write(key, data, version))

    def append(self, key: str, old: bytes, new: bytes, version: str) -> str:
        return self._request(lambda: self._write(key, old + new, version))

    def version(self, key: str) -> str | None:
        return self._request(lambda: self._version(key))

    def upload(self, key: str, path: Path, *, replace: str | None = None) -> None:
        data = path.read_bytes()
        if not self.etags or len(data) <= WHOLE_BYTES:
            self._request(lambda: self._write(key, data, replace))
            return
        piece = f"{PIECES}{next(self._numbers)}-{id(self)}"
        try:
            self._request(lambda: self._write(piece, data, None))
            if replace is not None and self.version(key) != replace:
                raise ConflictError(key)
            self._request(lambda: self._copy(piece, key, absent=replace is None))
        finally:
            with contextlib.suppress(UnreachableError):
                self.delete(piece)

    def stream(self, key: str) -> Iterator[bytes]:
        found = self.get(key)
        if found is None:
            raise MissingError(key)
        yield found.data

    def delete(self, key: str) -> None:
        self._request(lambda: self.objects.pop(key, None))

    def keys(self, prefix: str) -> Iterable[str]:
        return self._request(lambda: [key for key in self.objects if key.startswith(prefix)])

    def children(self) -> tuple[list[str], list[str]]:
        keys = self.keys("")
        return sorted({key.split("/")[0] for key in keys if "/" in key}), [key for key in keys if "/" not in key]

    def _write(self, key: str, data: bytes, version: str | None) -> str:
        if self._version(key) != version:
            raise ConflictError(key)
        new = hashlib.md5(data).hexdigest() if self.etags else f"{next(self._numbers)}-{id(self)}"  # noqa: S324
        self.objects[key] = StoredObject(data, new)
        return new

    def _copy(self, source: str, key: str, *, absent: bool) -> None:
        if source not in self.objects:
            raise MissingError(source)
        self._write(key, self.objects[source].data, None if absent else self._version(key))

    def _version(self, key: str) -> str | None:
        found = self.objects.get(key)
        return found.version if found else None

    def _request(self, act: Callable[[], T]) -> T:
        match self.weather.next():
            case "before":
                raise UnreachableError("503 before")
            case "after":
                act()
                raise UnreachableError("reset after")
            case "late":
                self.late.append(act)
                raise UnreachableError("timed out")
        return act()
