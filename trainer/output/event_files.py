"""`python -m trainer.output.event_files ADDRESS FOLDER [profiles]`: brings event files from a bucket as they grow.

And profiles; or with `profiles` these alone. `trainer.board` starts it beside a TensorBoard that reads disks alone, or
whose plugin for profiles does. It ends with a usage error when the address, or a credential in the environment, can
never be right; whatever else a store says, it tries again.
"""

import concurrent.futures
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from trainer.core.exit_codes import UsageError
from trainer.core.run_dir import PROFILE, is_event_file, is_profile
from trainer.core.safe_text import one_line
from trainer.output.stores.errors import ConflictError, MissingError, StorageError
from trainer.output.stores.opening import open_ranges, split
from trainer.output.stores.ranges import Entry, Ranges
from trainer.output.stores.store import PART_BYTES

PAUSE_SECONDS = 5.0  # As long as TensorBoard waits before it looks at its folder again.
_SAY_EVERY = 60.0  # Seconds.
_FOLDERS_AT_ONCE = 16  # Of the files of one folder each is whole before the next begins, as TensorBoard must see them.
_PART = ".part"  # What a profile is called until all of it is there.
_TAIL = 16  # Bytes: the last record's checksum is among them.


class EventFiles:
    """The event files below an address, and what of them is in a folder of this disk. Nothing else writes there."""

    def __init__(
        self, address: str, folder: Path, environ: Mapping[str, str] = os.environ, *, profiles_alone: bool = False
    ) -> None:
        """Nothing is asked of the store yet.

        Raises:
          UsageError: it is no address, or the endpoint or a credential in the environment can never work.
        """
        scheme, bucket, self._path = split(address)
        self._ranges: Ranges = open_ranges(scheme, bucket, environ)
        self._folder = folder
        self._profiles_alone = profiles_alone
        self._versions: dict[str, str] = {}  # Of each key, once all of that version is on the disk.

    def fetch(self) -> None:
        """Brings what is new, and removes what is gone from the store.

        Raises:
          StorageError: the store failed; what was brought stays, and the next call goes on.
          OSError: the disk did.
        """
        folders: dict[str, list[Entry]] = {}
        found = {entry.key: entry for entry in self._ranges.entries(self._path) if self._is_wanted(entry.key)}
        for key in sorted(found):
            folders.setdefault(key.rpartition("/")[0], []).append(found[key])
        for key in self._versions.keys() - found.keys():
            self._remove(key)
        with concurrent.futures.ThreadPoolExecutor(_FOLDERS_AT_ONCE) as threads:
            for _ in threads.map(self._bring_all, folders.values()):
                pass

    def _is_wanted(self, key: str) -> bool:
        """Whether it is to be brought, and leads to a place below the folder: anybody may have written the bucket."""
        *above, name = self._below(key).split("/")
        is_one = is_profile(above, name) or (is_event_file(name) and not self._profiles_alone)
        return is_one and all(
            part not in ("", ".", "..") and part.isprintable() and len(part.encode()) <= 255 for part in above
        )

    def _below(self, key: str) -> str:
        return key[len(self._path) + 1 :] if self._path else key

    def _bring_all(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if self._versions.get(entry.key) != entry.version:
                # Meanwhile it has grown, or is gone: it and those after it come with the next call.
                try:
                    path = self._folder / self._below(entry.key)
                    (self._bring_whole if path.name.endswith(PROFILE) else self._bring)(entry, path)
                except (ConflictError, MissingError):
                    return
                self._versions[entry.key] = entry.version

    def _bring(self, entry: Entry, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        tail, at = _end_of(path)
        first = self._read(entry, at - len(tail), PART_BYTES) if entry.size > at - len(tail) else b""
        if not first.startswith(tail) or entry.size < at:  # Another file of that name: TensorBoard is to see it go.
            path.unlink()
            tail, at = b"", 0
            first = self._read(entry, 0, PART_BYTES) if entry.size else b""
        with path.open("ab") as file:
            file.write(first[len(tail) :])
            at += len(first) - len(tail)
            while at < entry.size:
                data = self._read(entry, at, PART_BYTES)
                file.write(data)
                at += len(data)

    def _bring_whole(self, entry: Entry, path: Path) -> None:
        """A profile has its name once it is whole: half of one is none to TensorBoard's plugin."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(_PART)
        with part.open("wb") as file:
            while (at := file.tell()) < entry.size:
                file.write(self._read(entry, at, PART_BYTES))
        part.replace(path)

    def _read(self, entry: Entry, start: int, most: int) -> bytes:
        return self._ranges.read(entry.key, start, min(most, entry.size - start), entry.version)

    def _remove(self, key: str) -> None:
        path = self._folder / self._below(key)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # Others are still in it.
            path.parent.rmdir()
        del self._versions[key]


def _end_of(path: Path) -> tuple[bytes, int]:
    """The last bytes of a file, and its size; nothing where there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            return file.read(), size
    except FileNotFoundError:
        return b"", 0


def pauses(seconds: float) -> Iterator[None]:
    """Goes on for ever, with a pause before each but the first."""
    while True:
        yield
        time.sleep(seconds)


def main(address: str, folder: str, what: str = "") -> None:
    """Brings them until it is killed."""
    try:
        event_files = EventFiles(address, Path(folder), profiles_alone=what == "profiles")
    except UsageError as error:
        sys.exit(error.tell())
    said = -_SAY_EVERY
    for _ in pauses(PAUSE_SECONDS):
        try:
            event_files.fetch()
        except (StorageError, OSError) as error:
            if time.monotonic() >= said + _SAY_EVERY:
                said = time.monotonic()
                free = shutil.disk_usage(folder).free // 2**20
                text = one_line(f"warning: event files: {error}; trying again ({free} MiB are free in {folder})")
                print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
