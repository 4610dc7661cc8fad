"""One folder of event files, brought to an object store record by record, in order, each once.

The store gets a chain of segments, each an event file of its own, whose names sort in the order of writing. What an
attempt left unfinished at the end of its file is never copied. Where the copying stands is said by the chain alone: by
the last mark in it and what follows that.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from trainer.core.exit_codes import DataError
from trainer.core.run_dir import EVENT_FILE
from trainer.core.tfrecord import HEAD, Mark, parts, size_of_first, whole
from trainer.output.segments import SEGMENT_BYTES, Chain
from trainer.output.stores.store import Store, UnreachableError


class EventStream:
    """Copies `<run_dir>/<folder>/*tfevents*` to `<folder>/events.out.tfevents.<number>`."""

    def __init__(
        self,
        store: Store,
        run_dir: Path,
        folder: str,
        *,
        owner: str,
        wall_time: float,
        warn: Callable[[str], None],
        overtaken: Callable[[], None],
    ) -> None:
        """Nothing is asked of the store yet.

        Args:
          store: the objects of this run.
          run_dir: its directory on disk.
          folder: of event files, in it.
          owner: says in the chain who writes, unlike any other.
          wall_time: when that began, in seconds since 1970.
          warn: takes a sentence for a person.
          overtaken: called in `take_over` before a disk that lacks the file in which the chain ends, or some of it, is
            given it: what else is on that disk is not what led there.
        """
        self.folder = folder
        self._store = store
        self._directory = run_dir / folder
        self._prefix = f"{folder}/events.out.{EVENT_FILE}."
        self._owner, self._wall_time, self._warn, self._overtaken = owner, wall_time, warn, overtaken
        self._chain = Chain(store, self._name)
        self._waiting: list[str] = []  # Files that come after the one being copied, in order.
        self._seen: set[str] = set()
        self._source, self._offset = "", 0
        self._marked = False  # Whether the last mark in the chain names the file being copied.
        self._damaged: set[str] = set()
        self._fetched, self._sources = 0, list[str]()  # How many objects were fetched, and the files that they made.

    def take_over(self) -> None:
        """Makes this the chain's only writer, and the folder hold whatever the chain holds.

        Raises:
          DataError: the objects are not those of a mirror.
          StorageError: the store failed; call again later.
        """
        if not self._marked:
            self._chain.take_over(self._fence, len(list(self._store.keys(self._prefix))))
            self._marked = True
        if self._source and (self._fetched or self._lacks()):
            if not self._fetched:  # Else a call before this one has done so.
                self._overtaken()
                for name in self._files():
                    (self._directory / name).unlink()
            self._fetch()
        files = self._files()
        # Those that were written before the one that the chain ends in are in the chain, whatever they are called.
        first = files.index(self._source) + 1 if self._source else 0
        self._seen, self._waiting = set(files), files[first:]

    def flush(self) -> None:
        """Copies all whole records that are on disk.

        Raises:
          SupersededError: another mirror has taken the chain over.
          StorageError: the store failed; nothing is lost, call again later.
        """
        while True:
            self._chain.settle()
            self._look()
            data = self._read()
            if data:
                self._take(data)
            elif self._waiting:  # Nobody writes to a file any more once there is a later one.
                self._source, self._offset, self._marked = self._waiting.pop(0), 0, False
            else:
                return

    def backlog(self) -> int:
        """The bytes on disk that are not copied yet; any thread may ask."""
        waiting = {*self._waiting, *(name for name in self._files() if name not in self._seen)}
        sizes = [(self._directory / name).stat().st_size for name in waiting]
        path = self._directory / self._source
        rest = max(path.stat().st_size - self._offset, 0) if path.is_file() else 0
        return sum(sizes) + rest + self._chain.unsettled()

    def _lacks(self) -> bool:
        """Whether the disk lacks some of what the chain holds; what follows there was written without knowing that."""
        path = self._directory / self._source
        return not path.exists() or path.stat().st_size < self._offset

    def _name(self, number: int) -> str:
        return f"{self._prefix}{number:010d}"

    def _fence(self, segment: bytes) -> bytes:
        """The mark that ends a segment and begins the next one; takes over the position that it says."""
        try:
            for mark, records in parts(segment) if segment else ():
                self._source, self._offset = mark.source, mark.offset + len(records)
        except DataError as error:
            raise DataError(
                f"{self._store.url}/{self._prefix}*: {error}; the output must be the folder of this run alone"
            ) from None
        return Mark(owner=self._owner, source=self._source, offset=self._offset).event(self._wall_time)

    def _fetch(self) -> None:
        """Writes the files anew as far as the chain holds them, from where a call before this one came to."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for number in range(self._fetched, self._chain.count):
            found = self._store.get(self._name(number))
            if found is None:
                raise UnreachableError(f"{self._store.url}/{self._name(number)} was listed and is not there")
            for mark, records in parts(found.data):
                if mark.source:
                    with (self._directory / mark.source).open("r+b" if mark.offset else "wb") as file:
                        file.seek(mark.offset)
                        file.write(records)
                    self._sources = [*(name for name in self._sources if name != mark.source), mark.source]
            self._fetched = number + 1
        now = time.time_ns()
        for age, name in enumerate(
            reversed(self._sources), 1
        ):  # File systems' clocks are coarse; `_files` needs the order.
            os.utime(self._directory / name, ns=(now - age * 10**6,) * 2)

    def _files(self) -> list[str]:
        """The event files in the order in which they were written: they are, one after the other."""
        try:
            entries = [entry for entry in os.scandir(self._directory) if EVENT_FILE in entry.name]
        except FileNotFoundError:
            return []
        return [entry.name for entry in sorted(entries, key=lambda entry: (entry.stat().st_mtime_ns, entry.name))]

    def _look(self) -> None:
        """Notes the files that are new. It comes before reading: what a later file follows is complete."""
        new = [name for name in self._files() if name not in self._seen]
        self._waiting += new
        self._seen |= set(new)

    def _read(self) -> bytes:
        """The next whole records of the file being copied, a segment of them at most unless one is larger."""
        if not self._source or self._source in self._damaged:
            return b""
        with (self._directory / self._source).open("rb") as file:
            file.seek(self._offset)
            data = file.read(SEGMENT_BYTES)
            try:
                if len(data) >= HEAD.size and (size := size_of_first(data)) > len(data):
                    data += file.read(size - len(data))
                return data[: (whole(data) or [0])[-1]]
            except DataError as error:
                self._damaged.add(self._source)
                self._warn(
                    f"{self._directory / self._source} is damaged at byte {self._offset}: {error}; the rest of it is "
                    "left out"
                )
                return b""

    def _take(self, data: bytes) -> None:
        if self._marked and self._chain.fits(len(data)):
            self._chain.grow(data)
        else:
            mark = Mark(owner=self._owner, source=self._source, offset=self._offset).event(self._wall_time)
            if self._chain.fits(len(mark) + len(data)):
                self._chain.grow(mark + data)
            else:
                self._chain.begin(mark + data)
        self._marked = True
        self._offset += len(data)
