"""The run directory: every name in it, and what follows from a name. No other module spells one.

    train/, validation/         event files of TensorBoard
    train/plugins/profile/      profiles of TensorBoard's, where --profile_steps asks for one
    checkpoints/step-<n>.npz    checkpoints; a run resumes from the newest whole one. step-<n>-unevaluated.npz is that
                                of a run that was stopped between an epoch's last step and the end of its evaluation
    best/step-<n>.npz           the checkpoints of the best epochs, of --keep_best
    workers/<i>/attempt-<n>.log a worker's log of one attempt, continued in attempt-<n>.log.0001 and so on
    workers/<i>/autotuning-*    the kernels that XLA has found to be the fastest on that worker's GPUs
    attempts.jsonl              one line for each attempt
    code.tar.gz                 the experiment's code, where it was sent with the run
    export/saved_model/, export/model.tflite   the model in formats of other programs, where --export asks for them
    report.html                 the run on one page, at its end
    model.keras, result.json    what a run ends with; --mode=predict with predictions.npy or .parquet instead
    *.sweep.0, *.sweep.1        event files that a sweep's launcher adds to a trial's: its flags, and how it ended

In an output the same names are the keys of objects, and mirror.json says who writes them. Beside the runs, as the key
`.code/<SHA-256>.tar.gz`, lies code that is too large for a ConfigMap to bring it to the pods.
"""

import errno
import itertools
import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from trainer.core.exit_codes import UsageError

TRAIN, VALIDATION = "train", "validation"
EVENT_FOLDERS = (TRAIN, VALIDATION)
CHECKPOINTS = "checkpoints"
BEST = "best"
WORKERS = "workers"
ATTEMPTS = "attempts.jsonl"
CODE = "code.tar.gz"
MODEL = "model.keras"
WEIGHTS = "model.weights.h5"  # In the place of a model that cannot be written whole.
EXPORTS = "export"
SAVED_MODEL, TFLITE, ONNX = (
    f"{EXPORTS}/{name}" for name in ("saved_model", "model.tflite", "model.onnx")
)  # A folder, files.
PROFILES = f"{TRAIN}/plugins/profile"  # Where TensorBoard looks for them; a folder each.
PROFILE = ".xplane.pb"  # How the name of each of its files ends.
UNFINISHED_PROFILE = ".tmp.profile"
PREDICTIONS = ("predictions.npy", "predictions.parquet")
RESULT = "result.json"
REPORT = "report.html"
# In the order of writing: with the last one the run has ended.
FINAL_FILES = (MODEL, WEIGHTS, *PREDICTIONS, REPORT, RESULT)
MANIFEST = "mirror.json"  # In an output only.
EVENT_FILE = "tfevents"  # TensorBoard takes for an event file what has this in its name.

MOST_ATTEMPTS = 10**9  # No run has so many; a name in a bucket may say so all the same.

_UNEVALUATED = "-unevaluated"  # Sorts before the end of the name of the same step's other checkpoint.
_CHECKPOINT = re.compile(rf"step-([0-9]{{10}})(?:{_UNEVALUATED})?\.npz")
_LOG = re.compile(rf"{WORKERS}/([0-9]{{1,9}})/attempt-([0-9]{{1,16}})\.log(?:\.([0-9]{{1,9}}))?")
_LONGEST_NAME = 255  # Bytes of a file's name, on any file system that Linux has.
_HEX = "[0-9a-f]{8}"  # The checksum at the end of a Job's name, and the part of its UID at the end of a run's.
_RUN = re.compile(rf"(?P<job>(?P<release>.+)-{_HEX}|.+)-{_HEX}")


def run_name(job: str, uid: str) -> str:
    """The name of the run directory of a Job: the Job's name and the first 8 characters of its UID.

    The shell line in helm/templates/_job.tpl makes the same of what a pod knows of its Job.
    """
    return f"{job}-{uid[:8]}"


def run_name_parts(name: str) -> tuple[str, str] | None:
    """The Job's name and the release's in the name of a Job's run directory; None for another name.

    The chart calls its Job <release>-<8 hexadecimal digits>, and cuts a release's name that is too long for that; a Job
    that is called otherwise, as that in k8s/, has "" for the release.
    """
    match = _RUN.fullmatch(name)
    return (match["job"], match["release"] or "") if match else None


def sent_code_key(digest: str) -> str:
    """The key, from the output's address, of the code of that SHA-256; helm/templates/_job.tpl makes the same."""
    return f".code/{digest}.tar.gz"


def folder_of_run(given: str, *, claim: bool = True) -> Path:
    """The run directory that a flag names, or else a new one: logs/fit/<YYYYmmdd-HHMMSS>.

    The new one is made at once, since another run may start in the same second: its name then ends in -2, -3, …

    Args:
      given: the flag; no shell has replaced the ~ of --run_dir=~/x.
      claim: False: a new one is named alone, for a process that writes nothing there.

    Raises:
      UsageError: it cannot be made, or what is given cannot be looked into.
    """
    if given:
        path = Path(os.path.expanduser(given))
        try:
            (path / RESULT).exists()
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.EACCES):  # Another may pass.
                raise
            raise UsageError(f"--run_dir={path} cannot be used ({error.strerror}); name another folder") from None
        return path
    path = Path(time.strftime("logs/fit/%Y%m%d-%H%M%S"))
    if not claim:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        others = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
        return next(filter(newly_made, itertools.chain([path], others)))
    except OSError as error:
        raise UsageError(f"{path} cannot be made ({error.strerror}); name another folder with --run_dir") from None


def newly_made(path: Path) -> bool:
    """Whether this process has just made the folder: of several, one alone does."""
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def checkpoint_name(step: int, *, unevaluated: bool = False) -> str:
    """The name of the checkpoint of a step; of an epoch's last there may be one from before its evaluation, too."""
    return f"step-{step:010d}{_UNEVALUATED * unevaluated}.npz"


def checkpoint_step(name: str) -> int | None:
    """The step of the checkpoint of that name; None when it is no checkpoint's name."""
    match = _CHECKPOINT.fullmatch(name)
    return int(match[1]) if match else None


def checkpoint_names(run_dir: Path) -> list[str]:
    """The checkpoints on disk, oldest first. A file has its name only once it is whole."""
    return _checkpoint_names(run_dir / CHECKPOINTS)


def best_names(run_dir: Path) -> list[str]:
    """The checkpoints of the best epochs on disk, in the order of their steps."""
    return _checkpoint_names(run_dir / BEST)


def _checkpoint_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("step-*.npz") if checkpoint_step(path.name) is not None)


def newest_checkpoint(run_dir: Path) -> str | None:
    """The name of the newest checkpoint on disk; None: there is none."""
    return max(checkpoint_names(run_dir), default=None)


def newest_step(run_dir: Path) -> int:
    """The step of the newest checkpoint on disk; 0: there is none."""
    name = newest_checkpoint(run_dir)
    return (checkpoint_step(name) or 0) if name else 0


def is_exported(key: str) -> bool:
    """Whether that is the path, from the run directory, of a file of an export, and nothing that leads elsewhere."""
    if key in (TFLITE, ONNX):
        return True
    parts = key.removeprefix(f"{SAVED_MODEL}/").split("/")
    return key.startswith(f"{SAVED_MODEL}/") and 1 <= len(parts) <= 2 and all(map(_is_plain_name, parts))


def final_files(run_dir: Path) -> list[str]:
    """What is on disk of what a run ends with, in the order in which it is to be copied: the result comes last."""
    exported = (str(path.relative_to(run_dir)) for path in run_dir.glob(f"{EXPORTS}/**/*") if path.is_file())
    return [*sorted(filter(is_exported, exported)), *(key for key in FINAL_FILES if (run_dir / key).exists())]


def profile_files(run_dir: Path) -> list[str]:
    """The files of the profiles on disk; a file has its name only once it is whole."""
    found = (path for path in run_dir.glob(f"{PROFILES}/*/*") if path.is_file() and _is_plain_name(path.name))
    return sorted(str(path.relative_to(run_dir)) for path in found)


def is_event_file(name: str) -> bool:
    """Whether that is the name of an event file, and nothing that leads out of its folder."""
    return EVENT_FILE in name and _is_plain_name(name)


def is_profile(folders: Sequence[str], name: str) -> bool:
    """Whether a file of that name, and in these folders, is one of a profile, wherever the run directory lies."""
    return tuple(folders[-3:-1]) == ("plugins", "profile") and name.endswith(PROFILE) and _is_plain_name(name)


def _is_plain_name(name: str) -> bool:
    return bool(name) and (
        name.isprintable() and "/" not in name and not name.startswith(".") and len(name.encode()) <= _LONGEST_NAME
    )


def log_key(worker: int, attempt: int) -> str:
    """The path, from the run directory, of the first file of a worker's log of an attempt."""
    return f"{WORKERS}/{worker}/attempt-{attempt}.log"


def autotuning_key(worker: int, tensorflow: str) -> str:
    """The path, from the run directory, of the kernels that XLA has chosen for a worker.

    Its ending says to XLA that it is text; another version could not read it.
    """
    return f"{WORKERS}/{worker}/autotuning-{tensorflow}.textproto"


def log_parts(key: str) -> tuple[int, int, int] | None:
    """Worker, attempt and number of a file of a worker's log; None for another file."""
    match = _LOG.fullmatch(key)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def logs_in_order(keys: Iterable[str]) -> list[str]:
    """The files of workers' logs among `keys`, sorted by worker, attempt and number."""
    parts = {key: log_parts(key) for key in keys}
    return sorted((key for key, part in parts.items() if part), key=lambda key: parts[key] or ())


def logs_on_disk(run_dir: Path, worker: int) -> list[str]:
    """The files of a worker's logs on disk, in the order in which they were written."""
    return logs_in_order(str(path.relative_to(run_dir)) for path in run_dir.glob(f"{WORKERS}/{worker}/*"))


def highest_attempt(keys: Iterable[str]) -> int:
    """The highest number of an attempt that has a log among `keys`; 0: none has."""
    return max((part[1] for key in keys if (part := log_parts(key)) and part[1] <= MOST_ATTEMPTS), default=0)


def highest_attempt_on_disk(run_dir: Path) -> int:
    """The highest number of an attempt that has a log in the run directory; 0: none has."""
    return highest_attempt(str(path.relative_to(run_dir)) for path in run_dir.glob(f"{WORKERS}/*/*"))
