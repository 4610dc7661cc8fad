"""Brings a run directory to an object store while the run goes on, and back when the disk was lost.

Two threads: one for what grows (events, attempts.jsonl, the worker's log), which must be seen within seconds, and one
for whole files (checkpoints), which may take long. A checkpoint goes only after the events up to its step have gone.
What cannot be brought stays where it is, in the run directory, until it can.
"""

import contextlib
import itertools
import random
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from trainer.core.exit_codes import OutputError, UsageError
from trainer.core.run_dir import (
    ATTEMPTS,
    CHECKPOINTS,
    MODEL,
    RESULT,
    TRAIN,
    VALIDATION,
    WORKERS,
    checkpoint_names,
    highest_attempt,
    highest_attempt_on_disk,
    logs_on_disk,
    newest_checkpoint,
)
from trainer.output.event_stream import EventStream
from trainer.output.files import GrowingFile, fetch, fetch_checkpoint, put_checkpoint, put_final
from trainer.output.mirror_manifest import Manifest
from trainer.output.outage import Trouble
from trainer.output.segments import SupersededError
from trainer.output.stores.store import PIECES, NoBucketError, RefusedError, StorageError, Store, UnreachableError

FOLDERS = (TRAIN, VALIDATION)
FINALS = (MODEL, RESULT)  # In this order: the result says that all is there.
REFUSED_SECONDS = 60.0  # A cloud's identity can lag behind the pod that it is given to.
LONGEST_PAUSE = 30.0  # Seconds between tries while the store is away.


class Mirror:
    """What an agent does with its output: it copies the chief's run directory, and every worker's log."""

    def __init__(
        self,
        store: Store,
        run_dir: Path,
        *,
        worker: int,
        interval: float,
        final_timeout: float,
        say: Callable[[str], None],
        warn: Callable[[str], None] | None = None,
        on_end: Callable[[Exception], None] = lambda _: None,
        threads: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """Nothing is asked of the store yet.

        Args:
          store: the objects of this run.
          run_dir: its directory on disk.
          worker: this worker's index; 0 is the chief, which writes the run directory.
          interval: seconds between two looks at what was written.
          final_timeout: seconds to wait for a store that is away, before the run and at its end.
          say: takes a sentence for a person.
          warn: takes one about the worker's log, which for that reason must not go there; `say` if not given.
          on_end: called, in a thread of the mirror's, when it has ended because another agent took the run over.
          threads: copy in threads of its own; otherwise whoever made the mirror calls `copy_growing` and `copy_whole`.
          clock: the time in seconds.
          wait: waits for seconds.
        """
        self._store, self._run_dir, self._worker = store, run_dir, worker
        self._interval, self._final_timeout = interval, final_timeout
        self._in_threads, self._warn = threads, warn or say
        self._say, self._on_end, self._clock, self._wait = say, on_end, clock, wait
        owner = uuid.uuid4().hex
        now = time.time()
        self._manifest = Manifest(store, owner)
        chief = worker == 0
        self._streams = tuple(
            EventStream(store, run_dir, folder, owner=owner, wall_time=now, warn=say, overtaken=self._forget)
            for folder in FOLDERS
            if chief
        )
        self._attempts = GrowingFile(store, run_dir, ATTEMPTS) if chief else None
        # What a start does, in order: the predecessor is stopped before anything is read that it could change.
        self._steps: list[Callable[[], None]] = [self._resume_logs]
        if chief:
            streams = [stream.take_over for stream in self._streams]
            self._steps = [self._manifest.take_over, *streams, self._tidy, self._resume_logs, self._count, self._fetch]
        if self._attempts:
            self._steps.insert(-1, self._attempts.resume)
        self._logs: dict[str, GrowingFile] = {}  # By key; the last is the one that grows.
        self._cleared: str | None = None  # The newest checkpoint whose events are stored.
        self._clears = threading.Event()  # Another one is: it may not be on disk for long.
        self._trouble = Trouble(store.url, say=say, clock=clock)
        self._stop = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._error: Exception | None = None
        self._last_attempt = 0
        self._lost_logs: set[str] = set()  # Keys that somebody else writes to.
        self._final: set[str] = set()  # Of the files that the run ends with, those that were read back.

    # -- What the agent calls ------------------------------------------------------------------------------------------

    def begin(self) -> int:
        """Takes the run over, brings back what the disk lacks of it, and starts the copying.

        Returns:
          The highest number of an attempt of which the store has a log.

        Raises:
          UsageError: there is no such bucket, or writing to it is forbidden.
          OutputError: the store did not answer in time.
          DataError: what lies there is not this run's, or is damaged.
        """
        start = self._clock()
        failures = 0
        while True:
            try:
                self._take_over()
                break
            except NoBucketError as error:
                raise UsageError(f"{error}; make the bucket first, or name another with --output") from None
            except RefusedError as error:
                if self._clock() - start >= REFUSED_SECONDS:
                    raise UsageError(
                        f"{error}; the workers need to read, write, list and delete objects below {self._store.url}: "
                        "give their service account, or the credentials in their environment, that right"
                    ) from None
                self._trouble.report(error)
            except StorageError as error:
                if self._clock() - start >= self._final_timeout:
                    raise OutputError(
                        f"{error}; the output did not answer for --mirror_final_timeout={self._final_timeout:g} s, and "
                        "without it nobody knows where the run stood"
                    ) from None
                self._trouble.report(error)
            except OSError as error:
                raise OutputError(
                    f"what is in {self._store.url} cannot be brought back to {self._run_dir}: {error.strerror}; make "
                    "room there, or name another --run_dir"
                ) from None
            self._wait(self._pause(failures))
            failures += 1
        self._trouble.over()
        if self._in_threads:
            self._start()
        return self._last_attempt

    def finish(self, *, timeout: float | None = None) -> None:
        """Stops the copying when everything is there, however long that takes while it gets on.

        Args:
          timeout: seconds to wait for a store that is away; None: as long as this mirror was told to.

        Raises:
          OutputError: names what is missing, and why.
        """
        if self._steps:
            return  # It never came to begin: nothing was promised, and the run is not this agent's.
        limit = self._final_timeout if timeout is None else timeout
        self._stop.set()
        self._clears.set()
        # The logs' last lines and the events do not wait for a checkpoint that is on its way, which may be large.
        left: list[Callable[[], None]] = [lambda: self._end("growing", max(limit, 1.0)), self.copy_growing]
        left += [lambda: self._end("whole", None), self.copy_whole, self._put_finals, self.copy_growing]
        since, failures = self._clock(), 0
        while left:
            try:
                left[0]()
                left.pop(0)
                since, failures = self._clock(), 0  # It gets on, however slowly.
            except (StorageError, OSError) as error:
                rest = since + limit - self._clock()
                if rest <= 0:
                    raise OutputError(
                        f"{self._store.url} lacks {', '.join(self.missing())} after {limit:g} s of trying at the end "
                        f"({error}); what is missing is still in {self._run_dir} on worker {self._worker}"
                    ) from None
                self._trouble.report(error, waiting=self.backlog())
                self._wait(min(self._pause(failures), rest))
                failures += 1
        self._trouble.over()

    # -- One round -----------------------------------------------------------------------------------------------------

    def copy_growing(self) -> None:
        """Copies all that was added to events, attempts.jsonl and this worker's logs.

        Raises:
          SupersededError: another agent has taken the run over.
          StorageError: the store failed; nothing is lost, call again later.
        """
        newest = newest_checkpoint(self._run_dir) if self._worker == 0 else None
        for stream in self._streams:
            stream.flush()
        if newest != self._cleared:
            self._cleared = newest  # What was on disk when it appeared is stored now.
            self._clears.set()
        if self._attempts:
            self._copy_attempts(self._attempts)
        self._copy_logs()

    def copy_whole(self) -> None:
        """Copies the newest checkpoint, if all events up to it are there; raises as `copy_growing`."""
        if name := self._cleared:
            put_checkpoint(self._store, self._manifest, self._run_dir, name)

    def backlog(self) -> int:
        """The bytes of events and logs that wait on disk."""
        parts: list[EventStream | GrowingFile] = [*self._streams, *list(self._logs.values())]
        if self._attempts:
            parts.append(self._attempts)
        return sum(map(_waiting, parts))

    def missing(self) -> list[str]:
        """What the store lacks, for a person; any thread may ask."""
        lacks = [f"{size} bytes of {stream.folder}/" for stream in self._streams if (size := _waiting(stream))]
        if self._attempts and _waiting(self._attempts):
            lacks.append(ATTEMPTS)
        lacks += [key for key, log in list(self._logs.items()) if _waiting(log)]
        with contextlib.suppress(OSError):  # The disk may be what fails.
            newest = newest_checkpoint(self._run_dir) if self._worker == 0 else None
            if newest and all(stored.file != newest for stored in self._manifest.checkpoints):
                lacks.append(f"{CHECKPOINTS}/{newest}")
            ends = FINALS if self._worker == 0 else ()
            lacks += [key for key in ends if (self._run_dir / key).exists() and key not in self._final]
        return lacks or ["the last answers of the store"]

    # -- Parts of it ---------------------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        """One step after the other; those that were done are not repeated when a later one had failed."""
        while self._steps:
            self._steps[0]()
            self._steps.pop(0)

    def _tidy(self) -> None:
        for key in [*self._store.keys(PIECES)]:
            self._store.delete(key)

    def _resume_logs(self) -> None:
        """Goes on with the logs of an agent before this one, on this disk."""
        for key in logs_on_disk(self._run_dir, self._worker):
            self._logs[key] = GrowingFile(self._store, self._run_dir, key)
            self._logs[key].resume()

    def _count(self) -> None:
        stored = highest_attempt(self._store.keys(f"{WORKERS}/"))
        self._last_attempt = max(
            stored, highest_attempt_on_disk(self._run_dir)
        )  # Whose agent may have died before it stored.

    def _forget(self) -> None:
        """Empties a disk that comes back with an older state: the run has taken its course elsewhere meanwhile.

        Its newer checkpoints would leave a gap in the events, and its attempts.jsonl lacks what was written since.
        """
        names = checkpoint_names(self._run_dir)
        if names:
            self._say(f"{self._run_dir} holds an older state of this run, up to {names[-1]}, than {self._store.url}")
        if (self._run_dir / ATTEMPTS).exists() and self._store.get(ATTEMPTS):
            (self._run_dir / ATTEMPTS).unlink()
        for key in [*FINALS, *(f"{CHECKPOINTS}/{name}" for name in names)]:
            (self._run_dir / key).unlink(missing_ok=True)

    def _fetch(self) -> None:
        """Brings back what a start without a checkpoint on disk needs."""
        if newest_checkpoint(self._run_dir) is not None:
            return
        if self._store.get(FINALS[-1]):
            for key in FINALS:
                fetch(self._store, key, self._run_dir)
        if name := fetch_checkpoint(self._store, self._manifest, self._run_dir):
            self._say(f"{name} and what led to it were fetched from {self._store.url}")

    def _start(self) -> None:
        """Starts the threads that copy."""
        for name, copy, event in (
            ("growing", self.copy_growing, self._stop),
            ("whole", self.copy_whole, self._clears),
        ):
            if name == "growing" or self._worker == 0:
                thread = threading.Thread(
                    target=self._repeat, args=(name, copy, event), name=f"mirror-{name}", daemon=True
                )
                self._threads[name] = thread
                thread.start()

    def _repeat(self, name: str, copy: Callable[[], None], event: threading.Event) -> None:
        """Copies again and again: every interval, and at once upon the event."""
        failures = 0
        try:
            while not self._stop.is_set():
                start = self._clock()
                try:
                    copy()
                    self._trouble.over(name)
                    failures = 0
                    event.wait(max(self._interval - (self._clock() - start), 0.0))
                    if event is not self._stop:
                        event.clear()
                except (StorageError, OSError) as error:
                    self._trouble.report(error, self.backlog(), who=name)
                    self._stop.wait(self._pause(failures))
                    failures += 1
        except Exception as error:
            self._error = error
            self._stop.set()
            self._on_end(error)

    def _end(self, name: str, seconds: float | None) -> None:
        """Waits for a thread, which was told to stop; raises what ended it before."""
        if thread := self._threads.get(name):
            thread.join(seconds)
            if thread.is_alive():
                raise UnreachableError(f"{self._store.url}: it is still busy with a request")
        if self._error:
            raise self._error

    def _pause(self, failures: int) -> float:
        return float(min(self._interval * 2.0 ** min(failures, 10), LONGEST_PAUSE) * random.uniform(0.5, 1.0))

    def _copy_attempts(self, file: GrowingFile) -> None:
        try:
            file.flush()
        except SupersededError:  # Who was superseded may have written one more line.
            self._manifest.check()
            file.resume()
            file.flush()

    def _copy_logs(self) -> None:
        keys = logs_on_disk(self._run_dir, self._worker)
        for key, following in itertools.zip_longest(keys, keys[1:]):
            log = self._logs.setdefault(key, GrowingFile(self._store, self._run_dir, key))
            if key in self._lost_logs:
                continue
            try:
                log.flush()
            except SupersededError as error:
                self._lost_logs.add(key)
                self._warn(f"{error}, as far as this log goes")
                continue
            if following:  # Nobody writes to a log any more once there is a later one.
                (self._run_dir / key).unlink()
                del self._logs[key]

    def _put_finals(self) -> None:
        if self._worker or not (self._run_dir / FINALS[-1]).exists():
            return
        for key in FINALS:
            if key not in self._final and (self._run_dir / key).exists():
                put_final(self._store, self._manifest, self._run_dir, key)
                self._final.add(key)


def _waiting(part: EventStream | GrowingFile) -> int:
    """The bytes that wait; 0 where the disk does not say: who asks is told of another failure, and goes on."""
    try:
        return part.backlog()
    except OSError:
        return 0
