"""What a run's files say of it, in a line's worth: for lists of runs, and for one that is shown."""

import concurrent.futures
import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.core import typed_json
from trainer.core.attempts import Span, goodput
from trainer.core.config import Config
from trainer.core.exit_codes import DataError
from trainer.core.result_figures import figure, metrics, sound
from trainer.core.run_dir import ATTEMPTS, CHECKPOINTS, EVENT_FOLDERS, MANIFEST, RESULT
from trainer.core.safe_text import one_line, redacted, redacted_in
from trainer.launch.codes import LaunchError
from trainer.launch.runs.event_scalars import newest
from trainer.launch.runs.places import RunFolder
from trainer.launch.runs.trials import flags_of_trials
from trainer.output import reader
from trainer.output.stores.errors import NoBucketError, RefusedError, StorageError, UnreachableError
from trainer.output.stores.store import Folders, Readable

_WAITS = (0.2, 1.0, 3.0)  # Seconds before a run is read again, of a store that is busy or away for a moment.
READERS = 32  # Runs that are read at a time; each is a few small requests, one after another.

DONE, UNFINISHED, BROKEN = "done", "unfinished", "broken"

Plain = str | int | float | bool | None

# Of flags that a result leaves out; it has the experiment and the epochs that were trained in places of their own, and
# does not say where it was written.
_DEFAULTS: dict[str, Plain] = {
    field.name: getattr(Config, field.name)
    for field in dataclasses.fields(Config)
    if field.name not in ("experiment", "epochs", "run_dir")
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run, as far as its files tell."""

    name: str
    state: str  # DONE, UNFINISHED or BROKEN.
    written: float = 0.0  # When its result was written, or without one what was written last; Unix time, 0: unknown.
    workers: int = 0  # 0: unknown.
    flags: Mapping[str, Plain] = dataclasses.field(default_factory=dict)  # Of the trainer's own those that differ.
    all_flags: bool = False  # Whether a flag of the trainer's own that is not among them had its default.
    # Of the last epoch; with --restore_best of the one whose weights the model has.
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    restarts: int = 0
    end: Mapping[str, Plain] = dataclasses.field(default_factory=dict)  # What ended it, as its result says.
    best: Mapping[str, Plain] = dataclasses.field(default_factory=dict)  # Its best epoch, likewise.
    outputs: Mapping[str, Plain] = dataclasses.field(default_factory=dict)  # Of --mode=predict, likewise.
    goodput: float | None = None  # None: no agent has written down where the time went.
    attempts: Sequence[Mapping[str, Any]] = ()
    problem: str = ""  # Of a broken one: what is wrong, in one line.

    def flag(self, name: str) -> Plain:
        """The value that a flag had, given or by default; None: it is not known."""
        if name in self.flags or not self.all_flags:
            return self.flags.get(name)
        return _DEFAULTS.get(name)

    def facts(self) -> dict[str, Any]:
        """All of it that its files say, but the attempts, for programs."""
        return {
            field.name: redacted_in(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name not in ("attempts", "all_flags")
        }


def summaries(place: Folders) -> list[RunSummary]:
    """The runs in a place, oldest first; what is broken is among them, and says what is wrong.

    Args:
      place: where runs lie, each in a folder of its own.

    Raises:
      LaunchError: the place cannot be read at all.
    """
    try:
        names = [name for name in place.children()[0] if name and not name.startswith(".")]
        return sorted(_read_all(place, names), key=lambda run: (run.written, run.name)) if names else []
    except StorageError as error:
        raise LaunchError(f"{redacted(place.url)} cannot be read: {error}") from None


def _read_all(place: Folders, names: Sequence[str]) -> list[RunSummary]:
    flags_of = flags_of_trials(place, names)
    with concurrent.futures.ThreadPoolExecutor(min(READERS, len(names))) as pool:
        read = [pool.submit(summary, RunFolder(place, name), name, flags_of.get(name, {})) for name in names]
        try:
            return [run for future in read if (run := future.result())]
        except BaseException:
            pool.shutdown(cancel_futures=True)  # A thousand more refusals tell nothing new.
            raise


def summary(run: Readable, name: str, flags: Mapping[str, Plain] | None = None) -> RunSummary | None:
    """One run; None where the folder is no run's.

    Args:
      run: its files.
      name: its name.
      flags: what somebody else knows of its flags.

    Raises:
      StorageError: reading is refused, or there is no such bucket.
    """
    problem = ""
    for seconds in (0.0, *_WAITS):
        time.sleep(seconds)
        try:
            return _read(run, name, {flag: _typed(value) for flag, value in (flags or {}).items()})
        except UnreachableError as error:  # A thousand runs are thousands of requests; any store refuses some of them.
            problem = one_line(str(error), 200)
    return RunSummary(name=name, state=BROKEN, problem=problem)


def _read(run: Readable, name: str, flags: Mapping[str, Plain]) -> RunSummary | None:
    """As `summary`, tried once; raises UnreachableError, too."""
    try:
        result = reader.result(run)
        attempts = _attempts(run)
        stored = run.get(RESULT if result is not None else MANIFEST) or run.get(ATTEMPTS)
        if stored is None and not any(list(run.keys(f"{name}/")) for name in (CHECKPOINTS, *EVENT_FOLDERS)):
            return None
        return _summary(run, name, flags, result, attempts, stored.written if stored else 0.0)
    except (RefusedError, NoBucketError, UnreachableError):
        raise
    except (StorageError, DataError) as error:
        return RunSummary(name=name, state=BROKEN, problem=one_line(str(error), 200))


def _attempts(run: Readable) -> list[dict[str, Any]]:
    return sorted(reader.attempts(run), key=lambda line: int(line["attempt"]))


def _summary(
    run: Readable,
    name: str,
    flags: Mapping[str, Plain],
    result: Mapping[str, Any] | None,
    attempts: Sequence[Mapping[str, Any]],
    written: float,
) -> RunSummary:
    spent = sum(sum(_seconds(line)) for line in attempts)
    if result is None:
        reached, epochs = newest(run)
        return RunSummary(
            name=name,
            state=UNFINISHED,
            written=written,
            workers=max((len(_workers(line)) for line in attempts[-1:]), default=0),
            flags=flags,
            metrics=reached,
            epochs=epochs,
            seconds=spent,
            restarts=max(0, attempts[-1]["attempt"] - 1) if attempts else 0,
            goodput=_goodput(attempts),
            attempts=attempts,
        )
    if not metrics(result) and not _flat(result, "outputs"):
        raise DataError(f"{RESULT} has no metric of any kind: it is damaged, or no trainer wrote it")
    return RunSummary(
        name=name,
        state=DONE,
        written=written,
        workers=round(figure(result, "workers")),
        flags={**flags, **flags_in(result)},
        all_flags=isinstance(sound(result).get("flags"), dict),  # 0.1.0 wrote none.
        metrics=metrics(result),
        epochs=round(figure(result, "epochs")),
        seconds=figure(result, "seconds"),
        restarts=round(figure(result, "restarts")),
        end=_flat(result, "end"),
        best=_flat(result, "best"),
        outputs=_flat(result, "outputs"),
        goodput=_goodput(attempts),
        attempts=attempts,
    )


def flags_in(result: Mapping[str, Any]) -> dict[str, Plain]:
    """The flags that a result says its run had: `flags`, and where an older version wrote none what it says of them."""
    said = sound(result)
    experiment = said.get("experiment")
    own = dict(experiment) if isinstance(experiment, dict) else {}
    flags: dict[str, Plain] = {"experiment": own.pop("module")} if "module" in own else {}
    flags |= {name: said[name] for name in ("epochs", "global_batch_size") if name in said}
    given = said.get("flags")
    return {**flags, **own, **(given if isinstance(given, dict) else {})}


def _typed(value: Plain) -> Plain:
    """A flag's value as a result has it: what a command line said is text there, though it may be a number."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            if isinstance(value, str) and math.isfinite(number := kind(value)):
                return number
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _flat(result: Mapping[str, Any], name: str) -> dict[str, Plain]:
    value = sound(result).get(name)
    return dict(value) if isinstance(value, dict) else {}


def _goodput(attempts: Sequence[Mapping[str, Any]]) -> float | None:
    """As `core.attempts.goodput`; None, too, where a line does not say which steps its attempt made."""
    spans: list[Span] = []
    for line in attempts:
        rendezvous, start_up, training = _seconds(line)
        try:
            first, last = typed_json.whole(line, "step_from"), typed_json.whole(line, "step_to")
        except ValueError:
            return None
        spans.append(Span(step_from=first, step_to=last, rendezvous=rendezvous, start_up=start_up, training=training))
    return goodput(spans)


def _seconds(line: Mapping[str, Any]) -> tuple[float, float, float]:
    """The seconds of an attempt in rendezvous, start-up and training."""
    spent = line.get("seconds")
    said = spent if isinstance(spent, dict) else {}
    return (figure(said, "rendezvous"), figure(said, "start_up"), figure(said, "training"))


def _workers(line: Mapping[str, Any]) -> tuple[int, ...]:
    try:
        return typed_json.wholes(line, "workers", most=10**6)
    except ValueError:
        return ()
