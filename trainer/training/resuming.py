"""Where a run goes on: the checkpoint that it starts from, and what that must have in common with this start."""

import dataclasses
from pathlib import Path

from trainer.core.config import Config
from trainer.core.exit_codes import DataError, UsageError
from trainer.core.run_dir import RESULT
from trainer.training.assembly import Assembly
from trainer.training.state import other_runs, run_lock, variables
from trainer.training.state.checkpoint import Checkpoint, Checkpoints, check_identity
from trainer.training.state.variables import Start


def find(run_dir: Path, checkpoints: Checkpoints, config: Config) -> Start:
    """What this start begins with.

    Raises:
      DataError: there are checkpoints, and none is whole; or --resume_from has none.
      UsageError, StoreAwayError: another process writes there; or the bucket of --resume_from refuses, or does not
        answer.
    """
    run_lock.hold(run_dir)
    if (run_dir / RESULT).exists():
        return Start(finished=True)
    checkpoints.remove_unfinished()
    newest = checkpoints.newest()
    if newest is None and config.resume_from:
        newest = other_runs.newest(config.resume_from)
        if newest is None:
            raise DataError(f"--resume_from={config.resume_from} holds no checkpoint")
        if config.kept():
            checkpoints.adopt_best(other_runs.best(config.resume_from))
        newest = dataclasses.replace(newest, ended=False)  # That the other run was to end there is not this one's.
    return Start(checkpoint=newest)


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
    done, per_epoch = saved.step, parts.trainer.steps_per_epoch
    if done > config.epochs * per_epoch:
        raise UsageError(
            f"--epochs={config.epochs} is less than the checkpoint of step {done} has, whose epochs have {per_epoch} "
            f"steps; give at least {-(-done // per_epoch)}, or start anew with another --run_dir"
        )
    variables.assign(parts.model, saved.arrays, keep_rate=not parts.rate_is_a_flag)
    sums, trainer = saved.sums, parts.trainer
    if len(sums) == 2 and len(fresh.sums) == 3:  # Saved by 0.1.0, which did not count examples.
        sums = [*sums, sums[1].dtype.type(saved.step % trainer.steps_per_epoch * config.global_batch_size)]
    if [value.shape for value in sums] != [value.shape for value in fresh.sums]:
        raise UsageError(
            f"the checkpoint of step {saved.step} was made with other metrics; start it as before, or start anew with "
            "another --run_dir"
        )
    return dataclasses.replace(saved, arrays={}, sums=sums, identity=parts.identity)
