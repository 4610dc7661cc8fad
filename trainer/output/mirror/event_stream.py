"""One folder of event files, brought to an object store record by record, in order, each once.

The store gets segments, each an event file of its own, whose names sort in the order of writing. What an attempt left
unfinished at the end of its file is never copied. The segments alone say how far the copying has come: the last mark in
them and what follows it (see `marks`).
"""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from trainer.core.exit_codes import DataError
from trainer.core.run_dir import EVENT_FILE, is_event_file
from trainer.core.tfrecord import HEAD, first_record_size, whole_records
from trainer.output.mirror.marks import Mark, end_position, marked_parts
from trainer.output.mirror.segments import SEGMENT_BYTES, Segments
from trainer.output.stores.errors import UnreachableError
from trainer.output.stores.store import Store

_NUMBER = re.compile("[0-9]{10}")


class EventStream:
    """Copies `<run_dir>/<folder>/*tfevents*` to `<folder>/events.out.tfevents.<number>`."""

    def __init__(
        self, store: Store, run_dir: Path, folder: str, *, owner: str, wall_time: float, warn: Callable[[str], None]
    ) -> None:
        """Nothing is asked of the store yet.

        Args:
          store: the objects of this run.
          run_dir: its directory on disk.
          folder: the folder of event files in it.
          owner: names this writer in the marks; no other writer has the same.
          wall_time: the date of its marks, in seconds since 1970.
          warn: takes a sentence for a person.
        """
        self.folder = folder
        self._store = store
        self._directory = run_dir / folder
        self._prefix = f"{folder}/events.out.{EVENT_FILE}."
        self._owner, self._wall_time, self._warn = owner, wall_time, warn
        self._segments = Segments(store, self._key)
        self._taken_over = False
        self._source, self._offset = "", 0  # The file being copied, and the bytes of it that were copied.
        self._source_is_marked = False  # Whether the last mark in the segments names that file.
        self._later_files: list[str] = []  # The files to copy after it, in order.
        self._known_files: set[str] = set()
        self._damaged_files: set[str] = set()
        self._fetched_segments = 0
        self._fetched_files: list[str] = []  # What the fetched segments were written to, in the order of writing.

    def take_over(self, discard_disk: Callable[[], None]) -> None:
        """Makes this the only writer of the segments, and the folder hold all that the segments hold.

        Args:
          discard_disk: called before the folder is written anew because the disk lacks some of what was stored: what
            else is on that disk did not lead to what was stored.

        Raises:
          DataError: the objects are not those of a mirror.
          StorageError: the store failed; call again later.
        """
        if not self._taken_over:
            there = [key for key in self._store.keys(self._prefix) if _NUMBER.fullmatch(key[len(self._prefix) :])]
            last_segment = self._segments.take_over(self._fence, len(there))
            self._source, self._offset = self._end_position(last_segment)
            self._source_is_marked = self._taken_over = True
        if self._fetched_segments:  # The store failed in a call before this one, which was writing the folder anew.
            self._fetch()
        elif self._source and self._disk_lacks_some():
            discard_disk()
            for name in self._files():
                (self._directory / name).unlink()
            self._fetch()
        files = self._files()
        if self._source and self._source not in files:
            raise self._foreign(f"they end in {self._source}, and hold nothing of it")
        # The files before the one that the segments end in were copied, too, under whatever names.
        first = files.index(self._source) + 1 if self._source else 0
        self._known_files, self._later_files = set(files), files[first:]

    def flush(self) -> None:
        """Copies all whole records that are on disk.

        Raises:
          SupersededError: another mirror has taken the segments over.
          StorageError: the store failed; nothing is lost, call again later.
        """
        while True:
            self._segments.flush()
            self._look_for_files()  # Before reading: a file that has a later one by now is complete.
            records = self._next_records()
            if records:
                self._write(records)
            elif self._later_files:
                self._source, self._offset, self._source_is_marked = self._later_files.pop(0), 0, False
            else:
                return

    def backlog(self) -> int:
        """The bytes on disk that are not copied yet; any thread may ask."""
        names = {*self._later_files, *(name for name in self._files() if name not in self._known_files)}
        later = sum((self._directory / name).stat().st_size for name in names)
        path = self._directory / self._source
        rest = max(path.stat().st_size - self._offset, 0) if path.is_file() else 0
        return later + rest + self._segments.waiting_bytes()

    # -- Taking over ---------------------------------------------------------------------------------------------------

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:010d}"

    def _fence(self, segment: bytes) -> bytes:
        """The mark that ends a segment and begins the next one: it says where the segment ends."""
        source, offset = self._end_position(segment)
        return Mark(owner=self._owner, source=source, offset=offset).event(self._wall_time)

    def _end_position(self, segment: bytes) -> tuple[str, int]:
        try:
            return end_position(segment)
        except DataError as error:
            raise self._foreign(error) from None

    def _foreign(self, problem: object) -> DataError:
        return DataError(
            f"{self._store.url}/{self._prefix}*: {problem}; the output must be the folder of this run alone"
        )

    def _disk_lacks_some(self) -> bool:
        """Whether the disk lacks some of what is stored: its files then went on without it."""
        path = self._directory / self._source
        return not path.exists() or path.stat().st_size < self._offset

    def _fetch(self) -> None:
        """Writes the files as the segments hold them; goes on where a call before this one stopped."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for number in range(self._fetched_segments, self._segments.count):
            segment = self._store.get(self._key(number))
            if segment is None:
                raise UnreachableError(f"{self._store.url}/{self._key(number)} was listed and is not there")
            try:
                parts = list(marked_parts(segment.data))
            except DataError as error:
                raise self._foreign(error) from None
            for mark, records in parts:
                if mark.source:
                    self._write_part(mark, records)
            self._fetched_segments = number + 1
        # `_files` goes by the times of the files, and a file system's clock may be too coarse to tell them apart.
        now = time.time_ns()
        for age, name in enumerate(reversed(self._fetched_files), 1):
            os.utime(self._directory / name, ns=(now - age * 10**6,) * 2)

    def _write_part(self, mark: Mark, records: bytes) -> None:
        """Writes records where their mark says; that place follows from the marks before."""
        path = self._directory / mark.source
        if mark.offset and (mark.source not in self._fetched_files or path.stat().st_size < mark.offset):
            raise self._foreign(f"a mark in it goes on at byte {mark.offset} of {mark.source}, which ends before")
        with path.open("r+b" if mark.offset else "wb") as file:
            file.seek(mark.offset)
            file.write(records)
        self._fetched_files = [*(name for name in self._fetched_files if name != mark.source), mark.source]

    # -- Copying -------------------------------------------------------------------------------------------------------

    def _files(self) -> list[str]:
        """The event files in the order in which they were written; only the last one may still grow."""
        try:
            entries = [entry for entry in os.scandir(self._directory) if is_event_file(entry.name)]
        except FileNotFoundError:
            return []
        return [entry.name for entry in sorted(entries, key=lambda entry: (entry.stat().st_mtime_ns, entry.name))]

    def _look_for_files(self) -> None:
        new = [name for name in self._files() if name not in self._known_files]
        self._later_files += new
        self._known_files |= set(new)

    def _next_records(self) -> bytes:
        """The next whole records of the file being copied: at most a segment of them, unless one alone is larger."""
        if not self._source or self._source in self._damaged_files:
            return b""
        path = self._directory / self._source
        with path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(SEGMENT_BYTES)
            try:
                if len(data) >= HEAD.size and (size := first_record_size(data)) > len(data):
                    data += file.read(size - len(data))
                return b"".join(whole_records(data))
            except DataError as error:
                self._damaged_files.add(self._source)
                self._warn(f"{path} is damaged at byte {self._offset}: {error}; the rest of it is left out")
                return b""

    def _write(self, records: bytes) -> None:
        """Adds records to the last segment, or to a new one, behind a mark where the place does not follow from one."""
        if self._source_is_marked and self._segments.has_room(len(records)):
            self._segments.extend_last(records)
        else:
            mark = Mark(owner=self._owner, source=self._source, offset=self._offset).event(self._wall_time)
            if self._segments.has_room(len(mark) + len(records)):
                self._segments.extend_last(mark + records)
            else:
                self._segments.begin_next(mark + records)
        self._source_is_marked = True
        self._offset += len(records)
