"""Where a run goes on: the checkpoint that it starts from, and what that must have in common with this start."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from trainer.core.config import Config
from trainer.core.exit_codes import DataError, UsageError
<<<<<<< e319f5ec7a5f231b074f91073f169676044b79f3
from trainer.core.run_dir import BEST, RESULT, checkpoint_step
=======
from trainer.core.run_dir import RESULT
from trainer.training import other_runs
>>>>>>> df1d7477b1c73f4fd51cb75d9d25096fe53c5f55
from trainer.training.assembly import Assembly
from trainer.training.data import remote_files
from trainer.training.state import trained_model, variables
from trainer.training.state.checkpoint import Checkpoint, Checkpoints, check_identity
from trainer.training.state.variables import Start


def find(run_dir: Path, checkpoints: Checkpoints, config: Config) -> Start:
    """What this start begins with.

    Raises:
      DataError: there are checkpoints, and none is whole; or --resume_from has none.
<<<<<<< e319f5ec7a5f231b074f91073f169676044b79f3
      UsageError, StoreAwayError: its bucket refuses, or does not answer.
=======
      UsageError, StoreAwayError: the bucket of --resume_from refuses, or does not answer.
>>>>>>> df1d7477b1c73f4fd51cb75d9d25096fe53c5f55
    """
    if (run_dir / RESULT).exists():
        return Start(finished=True)
    newest = checkpoints.newest()
    if newest is None and config.resume_from:
<<<<<<< e319f5ec7a5f231b074f91073f169676044b79f3
        newest = _newest(config)
        if newest is None:
            raise DataError(f"--resume_from={config.resume_from} holds no checkpoint")
        if config.kept():
            checkpoints.adopt_best(_best(config.resume_from))
=======
        newest = other_runs.newest(config.resume_from)
        if newest is None:
            raise DataError(f"--resume_from={config.resume_from} holds no checkpoint")
        if config.kept():
            checkpoints.adopt_best(other_runs.best(config.resume_from))
>>>>>>> df1d7477b1c73f4fd51cb75d9d25096fe53c5f55
        newest = dataclasses.replace(newest, ended=False)  # That the other run was to end there is not this one's.
    return Start(checkpoint=newest)


def _newest(config: Config) -> Checkpoint | None:
    """The newest whole checkpoint of the run that this one goes on from; None: it has none."""
    if "://" in config.resume_from:
        return trained_model.newest_checkpoint(config.resume_from)
    return Checkpoints(Path(config.resume_from), keep=config.keep).newest()


def _best(run: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of its best checkpoints."""
    folder = remote_files.join(run, BEST)
    for name in remote_files.names(folder):
        content = remote_files.read(remote_files.join(folder, name)) if checkpoint_step(name) is not None else None
        if content is not None:
            yield name, content


def resumed(saved: Checkpoint, fresh: Checkpoint, parts: Assembly, config: Config) -> Checkpoint:
    """Sets a run's variables to those of a checkpoint; returns its state.

    Args:
      saved: the checkpoint.
      fresh: the state of a run that begins.
      parts: the run.
      config: its flags.

    Raises:
      UsageError: it is of another run.
    """
    check_identity(saved, parts.identity)
    variables.assign(parts.model, saved.arrays, keep_rate=not parts.rate_is_a_flag)
    sums, trainer = saved.sums, parts.trainer
    if len(sums) == 2 and len(fresh.sums) == 3:  # Saved by 0.1.0, which did not count examples.
        sums = [*sums, sums[1].dtype.type(saved.step % trainer.steps_per_epoch * config.global_batch_size)]
    if [value.shape for value in sums] != [value.shape for value in fresh.sums]:
        raise UsageError(
            f"the checkpoint of step {saved.step} was made with other metrics; start it as before, or start anew with "
            "another --run_dir"
        )
    if saved.xla not in (None, trainer.jit_compile):
        print(
            f"the checkpoint's steps were made {'with' if saved.xla else 'without'} XLA, these are not: they draw "
            "other random numbers, and round otherwise"
        )
    return dataclasses.replace(saved, arrays={}, sums=sums, identity=parts.identity)
