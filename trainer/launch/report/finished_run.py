"""A run that the cluster no longer knows, as its output tells of it."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainer.core.causes import Cause
from trainer.core.exit_codes import meaning
from trainer.core.run_dir import MANIFEST, WORKERS
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.report.verdict import Verdict, duration, figures, reached
from trainer.output import reader
from trainer.output.stores.store import StorageError, Store, open_store, redacted

_HEX = "[0-9a-f]{8}"  # The chart's checksum, or the beginning of a Job's UID.


@dataclasses.dataclass(frozen=True)
class Past:
    """One run in an output."""

    output: str
    run: str  # The name of its folder.

    @property
    def where(self) -> str:
        """Its address, for a person."""
        return f"{redacted(self.output).rstrip('/')}/{self.run}"

    def verdict(self) -> Verdict:
        """How it ended.

        Raises:
          LaunchError: the output cannot be read.
        """
        store = self._store()
        try:
            return judge(self.run, self.where, reader.result(store), reader.attempts(store))
        except StorageError as error:
            raise LaunchError(f"the run in {self.where} cannot be read: {error}") from None

    def logs(self, wanted: str, *, before: int | None = None) -> Iterator[tuple[int, str]]:
        """The lines of logs and whose they are, worker by worker, oldest first.

        Args:
          wanted: chief, all or a worker's index.
          before: only of attempts before this one.

        Raises:
          LaunchError: the output cannot be read.
        """
        store = self._store()
        only = "" if wanted == "all" else f"{0 if wanted == 'chief' else wanted}/"
        try:
            workers = {int(key.split("/")[1]) for key in store.keys(f"{WORKERS}/{only}")}
            for worker in sorted(workers):
                for attempt, lines in reader.logs(store, worker):
                    if before is not None and attempt >= before:
                        break
                    for line in lines.decode(errors="replace").splitlines():
                        yield worker, line
        except StorageError as error:
            raise LaunchError(f"the logs in {self.where} cannot be read: {error}") from None

    def _store(self) -> Store:
        return open_store(f"{self.output.rstrip('/')}/{self.run}")


def newest(output: str, release: str, job: str = "") -> Past:
    """The run of a release that was written to last, of one of its Jobs or of any.

    Raises:
      UsageError: the output is no bucket's address.
      LaunchError: there is none, or the output cannot be read.
    """
    store = open_store(output)
    # The chart cuts the names of releases that are too long for its Jobs'.
    begin = job or release[:40]
    rest = rf"{re.escape(begin)}-{_HEX}" if job else rf"{re.escape(begin)}[-a-z0-9]*-{_HEX}-{_HEX}"
    try:
        runs = {key.split("/")[0] for key in store.keys(begin) if "/" in key}
        runs = {run for run in runs if re.fullmatch(rest, run) and (job or release.startswith(run[:-18]))}
        written = {run: found.written for run in runs if (found := store.get(f"{run}/{MANIFEST}"))}
    except StorageError as error:
        raise LaunchError(f"{redacted(output)} cannot be read: {error}") from None
    if not written:
        raise LaunchError(f"there is no run of {job or release} in {redacted(output)}", LaunchCode.NOT_STARTED)
    return Past(output, max(written, key=lambda run: written[run]))


def judge(run: str, where: str, result: Mapping[str, Any] | None, attempts: Sequence[Mapping[str, Any]]) -> Verdict:
    """Says how a run ended, from what it left. Pure.

    Args:
      run: its name.
      where: its address.
      result: its result.json, if it has one.
      attempts: the lines of its attempts.jsonl.
    """
    lines = [f"attempt {line['attempt']}: {line['reason']}, at step {line['step_to']}" for line in attempts[:-1]]
    kept = f"kept in {where}"
    if result is not None:
        headline = f"{reached(run, result)} in {duration(float(result.get('seconds', 0)))}"
        return Verdict(
            code=LaunchCode.DONE,
            headline=headline,
            lines=(figures(result), *lines, kept),
            facts={"result": dict(result)},
        )
    if not attempts:
        headline = f"not finished: {run} has neither a result nor an attempt that ended"
        return Verdict(code=LaunchCode.TRAINING, headline=headline, lines=(kept,))
    last = attempts[-1]
    failure = dict(last.get("failure") or {})
    headline = f"not finished: the last attempt of {run}, its {last['attempt']}., ended at step {last['step_to']}: "
    # What became of a process that its agent killed, or of an agent that is gone, no exit code says.
    by_itself = failure and failure.get("cause", Cause.CRASH) in (Cause.CRASH, Cause.FATAL, Cause.PEER_LOST)
    headline += (
        f"worker {failure['worker']} ended with exit code {failure['exit_code']} ({meaning(failure['exit_code'])})"
        if by_itself
        else str(last["reason"])
    )
    errors = [f"| {line}" for line in failure.get("errors", ())]
    facts = {"first_cause": failure} if failure else {}
    return Verdict(code=LaunchCode.TRAINING, headline=headline, lines=(*errors, *lines, kept), facts=facts)
