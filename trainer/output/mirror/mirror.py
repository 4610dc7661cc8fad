"""Brings a run directory to an object store while the run goes on, and back when the disk was lost.

There are two threads: one for what grows (events, attempts.jsonl, the worker's log), which must be seen within seconds,
and one for checkpoints, which may take long. A checkpoint goes only after the events up to its step have gone. What
cannot be brought to the store stays where it is, in the run directory, until it can.
"""

import time
from collections.abc import Callable
from pathlib import Path

from trainer.core.exit_codes import DataError, OutputError, UsageError
from trainer.output.mirror.chief_copy import ChiefCopy
from trainer.output.mirror.copy_thread import CopyThread
from trainer.output.mirror.log_copies import LogCopies
from trainer.output.mirror.takeover import Takeover
from trainer.output.outage import REFUSED_SECONDS, Growing, Outage, retry_seconds, waiting_bytes
from trainer.output.stores.errors import (
    AddressError,
    NoBucketError,
    RefusedError,
    StorageError,
    TooLargeError,
    UnreachableError,
)
from trainer.output.stores.store import Store


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
          threads: copy in threads of its own; otherwise whoever made the mirror calls `copy_growing` and
            `copy_checkpoint`.
          clock: the time in seconds.
          wait: waits for seconds.
        """
        self._store, self._run_dir, self._worker = store, run_dir, worker
        self._interval, self._final_timeout, self._in_threads = interval, final_timeout, threads
        self._on_end, self._clock, self._wait = on_end, clock, wait
        self._outage = Outage(store.url, say=say, clock=clock)
        self._chief = ChiefCopy(store, run_dir, say=say) if worker == 0 else None
        self._logs = LogCopies(store, run_dir, worker, warn=warn or say)
        self._takeover = Takeover(store, run_dir, chief=self._chief, logs=self._logs, say=say)
        self._begun = False
        self._growing_thread: CopyThread | None = None
        self._checkpoint_thread: CopyThread | None = None
        self._error: Exception | None = None  # What ended one of the threads.

    # -- What the agent calls ------------------------------------------------------------------------------------------

    def begin(self) -> int:
        """Takes the run over, brings back what the disk lacks of it, and starts the copying.

        Returns:
          The highest number of an attempt that has left a log in the store or on this disk; 0: none has.

        Raises:
          UsageError: there is no such bucket, or writing to it is forbidden.
          OutputError: the store did not answer in time.
          DataError: what lies there is not this run's, or is damaged.
        """
        start, failures = self._clock(), 0
        while True:
            try:
                highest_attempt = self._takeover.run()
                break
            except NoBucketError as error:
                raise UsageError(f"{error}; make the bucket first, or name another with --output") from None
            except TooLargeError as error:
                raise DataError(f"{error}; the output must be the folder of this run alone") from None
            except AddressError as error:
                raise UsageError(f"{error}; mend --output, or what the environment says of the store") from None
            except RefusedError as error:
                if self._clock() - start >= REFUSED_SECONDS:
                    raise UsageError(
                        f"{error}; the workers need to read, write, list and delete objects below {self._store.url}: "
                        "give their service account, or the credentials in their environment, that right"
                    ) from None
                self._outage.report(error)
            except StorageError as error:
                if self._clock() - start >= self._final_timeout:
                    raise OutputError(
                        f"{error}; the output did not answer for --mirror_final_timeout={self._final_timeout:g} s, and "
                        "without it nobody knows where the run stood"
                    ) from None
                self._outage.report(error)
            except OSError as error:
                raise OutputError(
                    f"what is in {self._store.url} cannot be brought back to {self._run_dir}: {error.strerror}; make "
                    "room there, or name another --run_dir"
                ) from None
            self._wait(retry_seconds(failures, interval=self._interval))
            failures += 1
        self._begun = True
        self._outage.over()
        if self._in_threads:
            self._start_threads()
        return highest_attempt

    def finish(self, *, timeout: float | None = None) -> None:
        """Stops the copying when everything is in the store, however long that takes while it gets on.

        Args:
          timeout: seconds to wait for a store that is away; None: as long as this mirror was told to.

        Raises:
          OutputError: names what is missing, and why.
        """
        if not self._begun:
            return  # Nothing was promised, and the run is not this agent's.
        limit = self._final_timeout if timeout is None else timeout
        self._stop_threads()
        # The logs' last lines and the events do not wait for a checkpoint that is on its way, which may be large.
        self._insist(lambda: self._join(self._growing_thread, max(limit, 1.0)), limit)
        self._insist(self.copy_growing, limit)
        self._insist(lambda: self._join(self._checkpoint_thread, None), limit)
        if self._chief:
            self._insist(self.copy_checkpoint, limit)
            self._insist(self._chief.copy_final_files, limit)
        self._insist(self.copy_growing, limit)
        self._outage.over()

    def missing(self) -> list[str]:
        """What the store lacks, for a person; any thread may ask."""
        missing = self._logs.missing() + (self._chief.missing() if self._chief else [])
        return missing or ["the last answers of the store"]

    # -- One round -----------------------------------------------------------------------------------------------------

    def copy_growing(self) -> None:
        """Copies all that was added to events, attempts.jsonl and this worker's logs.

        Raises:
          SupersededError: another agent has taken the run over.
          StorageError: the store failed; nothing is lost, call again later.
        """
        if self._chief:
            if self._chief.copy_events() and self._checkpoint_thread:
                self._checkpoint_thread.wake()  # The checkpoint may be removed from the disk soon.
            self._chief.copy_code()
            self._chief.copy_attempts()
        self._logs.flush()

    def copy_checkpoint(self) -> None:
        """Copies the newest checkpoint whose events are all in the store, and profiles; raises as `copy_growing`."""
        if self._chief:
            self._chief.copy_checkpoint()
            self._chief.copy_profiles()

    def backlog(self) -> int:
        """The bytes of events and logs that wait on disk."""
        growing: list[Growing] = [*(self._chief.growing if self._chief else ()), *list(self._logs.files.values())]
        return sum(map(waiting_bytes, growing))

    # -- Threads and retries -------------------------------------------------------------------------------------------

    def _start_threads(self) -> None:
        self._growing_thread = self._thread("growing", self.copy_growing)
        if self._chief:
            self._checkpoint_thread = self._thread("checkpoints", self.copy_checkpoint)
            self._checkpoint_thread.start()
        self._growing_thread.start()

    def _thread(self, name: str, copy: Callable[[], None]) -> CopyThread:
        return CopyThread(
            name,
            copy,
            interval=self._interval,
            outage=self._outage,
            backlog=self.backlog,
            on_error=self._end_with,
            clock=self._clock,
        )

    def _end_with(self, error: Exception) -> None:
        """Ends the copying because of an error; called in the thread that met it."""
        self._error = error
        self._stop_threads()
        self._on_end(error)

    def _stop_threads(self) -> None:
        for thread in (self._growing_thread, self._checkpoint_thread):
            if thread:
                thread.stop()

    def _join(self, thread: CopyThread | None, seconds: float | None) -> None:
        """Waits for a thread that was told to stop; raises what ended one of them before."""
        if thread and not thread.join(seconds):
            raise UnreachableError(f"{self._store.url}: it is still busy with a request")
        if self._error:
            raise self._error

    def _insist(self, step: Callable[[], None], limit: float) -> None:
        """Repeats a step until it succeeds.

        Raises:
          OutputError: it did not succeed for `limit` seconds.
        """
        start, failures = self._clock(), 0
        while True:
            try:
                step()
                return
            except (StorageError, OSError) as error:
                seconds_left = start + limit - self._clock()
                if seconds_left <= 0:
                    raise OutputError(
                        f"{self._store.url} lacks {', '.join(self.missing())} after {limit:g} s of trying at the end "
                        f"({error}); what is missing is still in {self._run_dir} on worker {self._worker}"
                    ) from None
                self._outage.report(error, waiting=self.backlog())
                self._wait(min(retry_seconds(failures, interval=self._interval), seconds_left))
                failures += 1
