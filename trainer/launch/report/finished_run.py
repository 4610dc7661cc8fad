"""A run that the cluster no longer knows, as its output tells of it."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from trainer.core import typed_json
from trainer.core.causes import KILLED_BY_AGENT, Cause
from trainer.core.exit_codes import DataError
from trainer.core.result_figures import figure, sound
from trainer.core.run_dir import ATTEMPTS, MANIFEST, WORKERS, log_parts, run_name_parts
from trainer.core.safe_text import one_line, redacted
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.report.end_of_worker import EndOfWorker
from trainer.launch.report.verdict import Verdict, ending_lines, report_lines, result_line, success_headline
from trainer.output import reader
from trainer.output.stores.errors import StorageError
from trainer.output.stores.opening import open_store
from trainer.output.stores.store import Store

_UNCUT = 40  # Characters of a release's name that the names of its Jobs always have: the chart cuts longer names.
# How a training process ended by itself, or was killed as it did not go on, is said here in the words of all verdicts.
# What became of an agent, or what all agents agreed on, only the attempt's reason tells.
_ENDS_OF_PROCESSES = {Cause.CRASH, Cause.FATAL, Cause.PEER_LOST, *KILLED_BY_AGENT}


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """One run in an output."""

    output: str
    run: str  # The name of its folder.

    @property
    def address(self) -> str:
        """Where it is, for a person."""
        return f"{redacted(self.output).rstrip('/')}/{self.run}"

    def verdict(self) -> Verdict:
        """How it ended.

        Raises:
          LaunchError: the output cannot be read, or what is there cannot be used.
        """
        store = self._store()
        try:
            attempts = [StoredAttempt.from_json(line) for line in reader.attempts(store)]
            verdict = stored_verdict(self.run, self.address, reader.result(store), attempts)
            kept = {"run": self.run, "output": redacted(self.output)}
            return dataclasses.replace(verdict, facts={**kept, **verdict.facts})
        except (StorageError, DataError) as error:
            raise LaunchError(f"the run in {self.address} cannot be read: {error}") from None

    def logs(self, wanted: str, *, before: int | None = None) -> Iterator[tuple[int, str]]:
        """The lines of logs and the worker of each, worker by worker, oldest first.

        Args:
          wanted: chief, all or a worker's index.
          before: only of attempts before this one.

        Raises:
          LaunchError: the output cannot be read.
        """
        store = self._store()
        only = "" if wanted == "all" else f"{0 if wanted == 'chief' else wanted}/"
        try:
            workers = {part[0] for key in store.keys(f"{WORKERS}/{only}") if (part := log_parts(key))}
            for worker in sorted(workers):
                for attempt, lines in reader.logs(store, worker):
                    if before is not None and attempt >= before:
                        break
                    for line in lines.decode(errors="replace").splitlines():
                        yield worker, line
        except StorageError as error:
            raise LaunchError(f"the logs in {self.address} cannot be read: {error}") from None

    def _store(self) -> Store:
        return open_store(self.output, run=self.run)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredAttempt:
    """A line of attempts.jsonl, as far as a verdict needs it."""

    number: int
    step: int  # The last one that it made.
    reason: str  # A sentence for people.
    failure: Mapping[str, Any]  # What ended it first, as far as it is what an agent writes; empty: nothing failed.

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Reads a line.

        Raises:
          DataError: it lacks what every line has.
        """
        try:
            return cls(
                number=typed_json.whole(line, "attempt"),
                step=typed_json.whole(line, "step_to"),
                reason=typed_json.text(line, "reason"),
                failure=_failure(typed_json.an_object(line.get("failure") or {}, "failure")),
            )
        except ValueError as error:
            raise DataError(f"{ATTEMPTS} has a damaged line: {one_line(str(error), 200)}") from None

    @property
    def text(self) -> str:
        """What ended it, without the error lines."""
        cause = self.failure.get("cause", Cause.CRASH)
        if "exit_code" not in self.failure or cause not in _ENDS_OF_PROCESSES:
            return self.reason
        end = EndOfWorker.of_process(self.failure["exit_code"], cause, explained=bool(self.failure.get("errors")))
        return f"worker {self.failure.get('worker')} {end.text}"


def _failure(value: Mapping[str, Any]) -> dict[str, Any]:
    """A failure's fields, checked; what is not there stays out. Raises ValueError."""
    checks: dict[str, Callable[[Mapping[str, Any], str], object]] = {
        "worker": typed_json.whole,
        "cause": typed_json.text,
        "exit_code": lambda value, name: typed_json.whole(value, name, most=255),
        "signal": typed_json.text,
        "errors": lambda value, name: list(typed_json.texts(value, name)),
    }
    return {name: check(value, name) for name, check in checks.items() if value.get(name) is not None}


def newest_in_output(output: str, release: str, job: str = "") -> FinishedRun:
    """The run of a release that was written to last, of one of its Jobs or of any.

    Raises:
      UsageError: the output is no bucket's address.
      LaunchError: there is none, or the output cannot be read.
    """
    store = open_store(output)
    try:
        runs = {key.split("/")[0] for key in store.keys(job or release[:_UNCUT]) if "/" in key}
        manifests = {run: store.get(f"{run}/{MANIFEST}") for run in runs if _is_run_of(run, release, job)}
    except StorageError as error:
        raise LaunchError(f"{redacted(output)} cannot be read: {error}") from None
    written = {run: manifest.written for run, manifest in manifests.items() if manifest}
    if not written:
        raise LaunchError(f"there is no run of {job or release} in {redacted(output)}", LaunchCode.NOT_STARTED)
    return FinishedRun(output, max(written, key=lambda run: written[run]))


def stored_verdict(
    run: str, address: str, result: Mapping[str, Any] | None, attempts: Sequence[StoredAttempt]
) -> Verdict:
    """Says how a run ended, from what it left. Pure.

    Args:
      run: its name.
      address: where it is.
      result: its result.json, if it has one.
      attempts: its attempts that have ended, in order.
    """
    kept = f"kept in {address}"
    earlier = [f"attempt {attempt.number} ended at step {attempt.step}: {attempt.text}" for attempt in attempts[:-1]]
    if result is not None:
        return Verdict(
            code=LaunchCode.DONE,
            headline=success_headline(run, result, figure(result, "seconds")),
            lines=(result_line(result), *ending_lines(result), *earlier, kept, *report_lines(address, result)),
            facts={"result": sound(result)},
        )
    if not attempts:
        headline = f"not finished: {run} has neither a result nor an attempt that ended"
        return Verdict(code=LaunchCode.TRAINING, headline=headline, lines=(kept,))
    last = attempts[-1]
    errors = [f"| {line}" for line in last.failure.get("errors", ())]
    return Verdict(
        code=LaunchCode.TRAINING,
        headline=f"not finished: attempt {last.number} of {run}, the last, ended at step {last.step}: {last.text}",
        lines=(*errors, *earlier, kept),
        facts={"first_cause": dict(last.failure)} if last.failure else {},
    )


def _is_run_of(run: str, release: str, job: str) -> bool:
    """Whether a run's name is one of a Job's, or if that is "" of any Job of a release."""
    parts = run_name_parts(run)
    if parts is None:
        return False
    runs_job, runs_release = parts
    if job:
        return runs_job == job
    cut = len(runs_release) >= _UNCUT and release.startswith(runs_release)
    return cut or runs_release == release
