"""Checkpoints: one file each, whole or not there, checked when read.

A checkpoint is a NumPy archive (.npz). Its members carry CRC-32 checksums, so damage is noticed. It is written under a
hidden name by a thread of its own, brought to the disk, and only then renamed.
"""

import dataclasses
import io
import json
import threading
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Self

import ml_dtypes  # noqa: F401  NumPy knows bfloat16 by name once it is imported.
import numpy as np
import numpy.typing as npt
from absl import logging

from trainer.core import format_versions, threads, typed_json
from trainer.core.exit_codes import DataError, UsageError
from trainer.core.run_dir import BEST, CHECKPOINTS, best_names, checkpoint_name, checkpoint_names, checkpoint_step
from trainer.core.safe_text import one_line
from trainer.training.state.whole_file import link_whole, remove_unfinished, write_whole

_STATE = "state.json"
_UNSAID = "(0.1.0 did not say it)"  # In the place of what a checkpoint of format 1 lacks.
# Of checkpoints from before this was said in them.
_BEFORE = {"learning rate schedule": "constant", "momentum": _UNSAID}
_SUMS = "sums/"  # Before the number of one of `Checkpoint.sums`, among the archive's members.
_UNKNOWN_TO_NUMPY = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}  # Stored as their bits.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A run's state between two steps."""

    step: int  # Completed steps.
    sums: list[npt.NDArray[Any]] = dataclasses.field(repr=False)  # Over the running epoch so far; see `scores.Sums`.
    history: list[dict[str, float]]  # A completed epoch each: loss and metrics, those of validation with val_ before.
    seconds: float  # Wall time of all attempts so far.
    step_seconds: float  # The part of them that was spent in steps.
    step_examples: int  # Examples in these steps.
    identity: dict[str, Any]  # What a resume may not change.
    arrays: dict[str, npt.NDArray[Any]] = dataclasses.field(repr=False)  # Variables of model and optimizer, by name.
    ended: bool = False  # Whether the experiment has ended the run here, before its last epoch.
    xla: bool | None = None  # Whether XLA has compiled its steps; None: it did not say.
    unevaluated: bool = False  # Whether its step ends an epoch that is not in `history` yet.

    def encode(self) -> bytes:
        """The content of its file."""
        fields = [field.name for field in dataclasses.fields(self) if field.name not in ("arrays", "sums")]
        members = self.arrays | {f"{_SUMS}{index}": value for index, value in enumerate(self.sums)}
        types = {name: str(array.dtype) for name, array in members.items() if str(array.dtype) in _UNKNOWN_TO_NUMPY}
        state = {name: getattr(self, name) for name in fields} | {
            "types": types,
            format_versions.KEY: format_versions.CHECKPOINT,
        }
        stored = {
            name: array.view(_UNKNOWN_TO_NUMPY[types[name]]) if name in types else array
            for name, array in members.items()
        }
        buffer = io.BytesIO()
        np.savez(buffer, **{_STATE: np.frombuffer(json.dumps(state).encode(), np.uint8)}, **stored)
        return buffer.getvalue()

    @classmethod
    def decode(cls, content: bytes, *, name: str = "the checkpoint") -> Self:
        """Reads what `encode` made, or what version 0.1.0 did.

        Raises:
          ValueError: it is damaged; the text says how.
          DataError: a newer version wrote it.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                members = {member: archive[member] for member in archive.files}
            state = typed_json.an_object(typed_json.loads(members.pop(_STATE).tobytes(), lenient=True), _STATE)
            if format_versions.version(state, format_versions.CHECKPOINT, what=name) == 1:
                state |= {"sums": _sums_of_format_1(state), "step_examples": state.pop("step_images")}
                state["identity"] |= {"loss": _UNSAID, "experiment's flags": _UNSAID}
            else:
                del state[format_versions.KEY]
                members |= {member: members[member].view(np.dtype(kind)) for member, kind in state.pop("types").items()}
                sums = sorted(
                    (int(member.removeprefix(_SUMS)), member) for member in members if member.startswith(_SUMS)
                )
                state["sums"] = [members.pop(member) for _, member in sums]
            _check_types(state)
            return cls(**state, arrays=members)
        except DataError:
            raise
        except Exception as error:  # What NumPy and zipfile raise for a file that is not theirs is not written down.
            raise ValueError(one_line(str(error)) or type(error).__name__) from None


def _check_types(state: dict[str, Any]) -> None:
    """Raises ValueError for what no run has saved: the file may come from a bucket."""
    typed_json.whole(state, "step")
    typed_json.whole(state, "step_examples")
    for name in ("seconds", "step_seconds"):
        typed_json.number(state, name)
    for name in ("ended", "unevaluated"):
        if type(state.get(name, False)) is not bool:
            raise ValueError(f"{name} is neither true nor false")
    typed_json.an_object(state["identity"], "identity")
    epochs = state["history"] if isinstance(state["history"], list) else [None]
    for scores in epochs:  # A metric may be no number.
        if not all(type(value) in (int, float) for value in typed_json.an_object(scores, "an epoch").values()):
            raise ValueError("history is no list of the epochs' loss and metrics")


def _sums_of_format_1(state: dict[str, Any]) -> list[npt.NDArray[Any]]:
    """The running sums of a checkpoint of 0.1.0, which knew the loss and the accuracy alone.

    Its loss was a sum over examples, as today's. How many examples there were it did not say: `hits` alone are kept
    here, and the count is put beside them by who knows the steps of an epoch.
    """
    return [np.float64(state.pop("loss_sum")), np.float32(state.pop("hits"))]  # type: ignore[list-item]


class Checkpoints:
    """The checkpoints of one run directory: the newest, and those of the best epochs."""

    def __init__(self, run_dir: Path, *, keep: int) -> None:
        self._run_dir, self._keep = run_dir, keep
        self._folder, self._best_folder = run_dir / CHECKPOINTS, run_dir / BEST
        self._pending: list[tuple[Checkpoint, Collection[int] | None]] = []
        self._changed = threading.Condition()
        self._writing = False
        self._failure: BaseException | None = None  # Of the thread that writes, which has ended by it.
        self.saved: int | None = None  # Step of the newest that is whole on disk.

    def remove_unfinished(self) -> None:
        """Removes what a process that was killed while it saved has left; called before anything is saved."""
        for folder in (self._folder, self._best_folder):
            remove_unfinished(folder, "step-*.npz")

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint; None when there has been none yet.

        Raises:
          DataError: there are checkpoints, but all are damaged.
        """
        paths = self._paths()
        for path in reversed(paths):
            try:
                checkpoint = Checkpoint.decode(path.read_bytes(), name=str(path))
            except (OSError, ValueError) as error:
                logging.warning("checkpoint %s is damaged (%s); trying the one before", path, error)
                continue
            self.saved = checkpoint.step
            return checkpoint
        if paths:
            raise DataError(
                f"none of the {len(paths)} checkpoint(s) in {self._folder} is whole; restore one from a backup, or "
                "start over with another --run_dir"
            )
        return None

    def best(self, step: int) -> Checkpoint | None:
        """The checkpoint of an epoch that was among the best; None when it is not there, or damaged."""
        path = self._best_folder / checkpoint_name(step)
        try:
            return Checkpoint.decode(path.read_bytes(), name=str(path))
        except (OSError, ValueError) as error:
            logging.warning("the checkpoint %s of one of the best epochs cannot be read (%s)", path, error)
            return None

    def adopt_best(self, best: Iterable[tuple[str, bytes]]) -> None:
        """Takes over the best ones of another run, which this one goes on from: their names and contents."""
        for name, content in best:
            self._best_folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._best_folder / name, content)

    def save(self, checkpoint: Checkpoint, *, best: Collection[int] | None = None) -> None:
        """Hands a checkpoint to the thread that writes it; one that still waits is replaced, if it is not to be kept.

        Args:
          checkpoint: the state after a step.
          best: the steps whose checkpoints are kept as the best from now on; None: those that are.
        """
        with self._changed:
            self._raise_failure()
            self._pending = [waiting for waiting in self._pending if waiting[0].step in (waiting[1] or ())]
            self._pending.append((checkpoint, best))
            if not self._writing:
                self._writing = True
                threading.Thread(target=self._write_pending, name="checkpoint", daemon=True).start()

    def wait(self) -> None:
        """Returns when everything that was handed over is on disk or has failed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._writing)
            self._raise_failure()

    def _raise_failure(self) -> None:
        """Raises, in the thread that trains, what has ended the one that writes: else nobody would hear of it."""
        if self._failure is not None:
            raise threads.as_exception(self._failure)

    def _write_pending(self) -> None:
        try:
            self._write_all()
        except BaseException as error:
            with self._changed:
                self._failure, self._writing = error, False
                self._changed.notify_all()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                if not self._pending:
                    self._writing = False
                    self._changed.notify_all()
                    return
                checkpoint, best = self._pending.pop(0)
            try:
                self._write(checkpoint, best)
            except OSError as error:
                logging.warning(
                    "the checkpoint of step %d could not be written (%s); training goes on, and a restart would begin "
                    "at step %s: make room in %s",
                    checkpoint.step,
                    error.strerror or error,
                    self.saved or 0,
                    self._folder,
                )

    def _write(self, checkpoint: Checkpoint, best: Collection[int] | None) -> None:
        name = checkpoint_name(checkpoint.step, unevaluated=checkpoint.unevaluated)
        content = checkpoint.encode()
        self._folder.mkdir(parents=True, exist_ok=True)
        if checkpoint.step in (best or ()):
            # Before the newest: a resume from this step does not come back to the end of this epoch.
            self._best_folder.mkdir(exist_ok=True)
            write_whole(self._best_folder / name, content)
            link_whole(self._best_folder / name, self._folder / name, content)
        else:
            write_whole(self._folder / name, content)
        self.saved = checkpoint.step
        if not checkpoint.unevaluated:  # That of the same step is no use any more.
            (self._folder / checkpoint_name(checkpoint.step, unevaluated=True)).unlink(missing_ok=True)
        for path in self._paths()[: -self._keep]:
            path.unlink(missing_ok=True)
        if best is not None:
            for other in best_names(self._run_dir):
                if checkpoint_step(other) not in best:
                    (self._best_folder / other).unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        """The checkpoints' files, oldest first."""
        return [self._folder / name for name in checkpoint_names(self._run_dir)]


def check_identity(checkpoint: Checkpoint, identity: dict[str, Any]) -> None:
    """Refuses a checkpoint of another run.

    Raises:
      UsageError: names what differs, as it was and as it is.
    """
    for name, value in identity.items():
        before = checkpoint.identity.get(name, _BEFORE.get(name))
        if before not in (value, _UNSAID):
            what, was, now = _difference(name, before, value)
            raise UsageError(
                f"the checkpoint of step {checkpoint.step} was made with {what} {was}, this start has {now}; "
                "start it as before, or start anew with another --run_dir"
            )
    for name in checkpoint.identity.keys() - identity.keys():
        raise UsageError(
            f"the checkpoint of step {checkpoint.step} was made with {name} {checkpoint.identity[name]}, this start "
            "without it; start it as before, or start anew with another --run_dir"
        )


def _difference(name: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """The first thing that differs in two values, in which others may lie."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return name, before, now
    key = next(key for key in sorted({*before, *now}) if before.get(key) != now.get(key))
    return _difference(f"{name}: {key}" if name == "data set" else f"{name} {key}", before.get(key), now.get(key))
