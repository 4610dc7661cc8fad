"""The training program's command line: one worker's training process.

TF_CONFIG in the environment makes it one of several workers; without it, it trains alone.
"""

import contextlib
import gc
import importlib
import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from trainer.core import agent_link, experiment_flags, installing, settings, typed_json
from trainer.core.config import PROGRAM, Config
from trainer.core.exit_codes import ExitCode, TrainerError, UsageError
from trainer.core.run_dir import RESULT, folder_of_run, newly_made
from trainer.core.safe_text import one_line
from trainer.core.tf_config import Cluster
from trainer.training.hardware import tf_logging
from trainer.training.model.experiment import load
from trainer.training.signals import StopWish
from trainer.training.state import run_lock


def main(argv: list[str], *, began: float) -> int:
    """Runs one attempt; returns the process's exit code."""
    gc.disable()  # What is imported stays, and looking for garbage among it is a quarter of a start's computing.
    stop = StopWish()
    if spare := agent_link.is_spare():
        tf_logging.set_up_logging(verbosity=0)
        agent_link.at_low_priority(lambda: importlib.import_module("trainer.training.loop"))  # What a spare is for.
    agent_link.start_beating()  # By its first beat the agent sees that a spare is ready.
    if spare:
        argv = agent_link.handed_over()
        began = time.monotonic()
    try:
        with contextlib.ExitStack() as at_end:
            return _attempt(argv, stop, began, at_end)
    except TrainerError as error:
        return error.tell()


def _attempt(argv: list[str], stop: StopWish, began: float, at_end: contextlib.ExitStack) -> int:
    config, _ = settings.parse_known(Config, argv, program=PROGRAM)
    if config.mode != "train" and config.model:
        tf_logging.set_up_logging(config.verbosity)
        _check_tensorflow()
        from trainer.training.state import trained_model

        # They say which experiment's flags the others may be. What was given comes last, and so counts.
        argv = [*trained_model.flags(config.model), *argv]
    config, rest = experiment_flags.parse(argv)
    tf_logging.set_up_logging(config.verbosity)
    cluster = Cluster.from_tf_config(os.environ.get("TF_CONFIG", ""))
    _check_shares(config, cluster)
    chief = cluster is None or cluster.is_chief
    run_dir = folder_of_run(config.run_dir, claim=chief)
    _check_mode(run_dir, config.mode)
    if cluster is None and (run_dir / RESULT).exists():
        print(f"{run_dir} holds a finished run; nothing to do")
        return ExitCode.DONE
    if chief and (check_writable(run_dir) or not config.run_dir):
        at_end.callback(_remove_if_empty, run_dir)  # Such as that of a start that is refused.
    if cluster is None:  # The chief of several tells all others, once they have met.
        run_lock.hold(run_dir)
    _check_tensorflow()
    experiment = load(config.experiment)
    if rest or experiment.flags is not None:  # The module itself says what flags it has.
        config = experiment_flags.parse_with(experiment.flags, argv)
    if config.mode != "train":
        from trainer.training import applying

        _collect_garbage_again()
        return applying.apply(config=config, experiment=experiment, cluster=cluster, run_dir=run_dir, began=began)
    from trainer.training import loop  # TensorFlow takes seconds to import: what can be refused is refused before.

    _collect_garbage_again()
    return loop.train(
        config=config,
        given=experiment_flags.given(experiment.flags, argv),
        experiment=experiment,
        cluster=cluster,
        run_dir=run_dir,
        stop=stop,
        began=began,
    )


def _collect_garbage_again() -> None:
    """From what is made from now on alone."""
    gc.freeze()
    gc.enable()


def _check_tensorflow() -> None:
    """Refuses an installation without the training part, which says so in one line and is not tried again."""
    for name in ("tensorflow", "keras"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(
                f"{name} is not installed; training needs it: {installing.training()} (gpu in the place of cpu for "
                "NVIDIA GPUs)"
            )


def _check_shares(config: Config, cluster: Cluster | None) -> None:
    if cluster and config.global_batch_size < cluster.workers:
        raise UsageError(
            f"--global_batch_size={config.global_batch_size} is smaller than the number of workers, {cluster.workers}; "
            "every worker needs at least one example of each batch"
        )


def _check_mode(run_dir: Path, mode: str) -> None:
    """Refuses a folder in which another kind of run has ended: its result is not what this one would write."""
    try:
        result = typed_json.an_object(typed_json.loads((run_dir / RESULT).read_bytes(), lenient=True), RESULT)
        before = typed_json.text({"mode": "train", **result}, "mode")
    except (OSError, ValueError):
        return
    if before != mode:
        raise UsageError(
            f"--run_dir={run_dir} holds the result of --mode={one_line(before, 40)}, which --mode={mode} would have to "
            "replace; name another folder"
        )


def check_writable(run_dir: Path) -> bool:
    """Refuses a run directory that could not be written to later; returns whether this has made it."""
    try:
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        made = newly_made(run_dir)
        with tempfile.TemporaryFile(dir=run_dir) as probe:  # Without a name: another start may be at the same.
            probe.write(bytes(65536))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and run_dir.is_symlink():
            raise UsageError(f"--run_dir={run_dir} is a link to {run_dir.readlink()}, which is not there") from None
        raise UsageError(
            f"--run_dir={run_dir} cannot be written to ({error.strerror}); make room or name another folder"
        ) from None
    return made


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # It is not.
        folder.rmdir()


def end(code: int) -> NoReturn:
    """Ends the process at once.

    The interpreter's own way out would take TensorFlow apart, which takes 2 s, aborts after tensorflow-io has read s3://
    and waits for peers that may be gone. Of all that it would do, the files are removed that TensorFlow has written of
    the functions that it rewrote.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("__autograph_generated_file"):
            compiled = module.__cached__ or ""  # Where Python keeps it, in a folder of its own.
            for remove, path in (
                (os.remove, module.__file__),
                (os.remove, compiled),
                (os.rmdir, os.path.dirname(compiled)),
            ):
                with contextlib.suppress(OSError):
                    remove(path or "")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
