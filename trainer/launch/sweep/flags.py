"""The flags of `sweep`: its own, and those of every trial, which are `submit`'s or those of `--local`."""

import dataclasses

from trainer.core.exit_codes import UsageError
from trainer.core.settings import setting
from trainer.launch.flags import SubmitFlags
from trainer.launch.local.flags import LocalFlags

_NOT_OF_TRIALS = {
    "detach": "the launcher starts one trial after another; Ctrl-C leaves those that run on the cluster alone",
    "dry_run": "`submit --dry_run` shows the manifests of one run",
    "replace": "a trial that still goes on is followed",
    "timeout": "it ends the watching and not the trial, which --set=job.activeDeadlineSeconds=… does",
    "tensorboard": "`python -m trainer.board --logdir OUTPUT` shows all trials",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """The flags that are the sweep's own."""

    name: str = setting(
        "sweep", "the sweep; its trials are the releases, or on this machine the runs, NAME-1, NAME-2, …"
    )
    grid: tuple[str, ...] = setting(
        (), "a flag of the training program and its values, as learning_rate=1e-3,3e-4; may be repeated"
    )
    random: int = setting(0, "so many combinations of these values, drawn by the sweep's name; 0: all", minimum=0)
    parallel: int = setting(
        0, "trials at a time; 0: 4 on a cluster, with --local as many as there are cores for", minimum=0
    )
    metric: str = setting(
        "", "what decides which trial is the best (default: the validation's accuracy, or else its loss)"
    )
    halving: bool = setting(
        False, "begin with few epochs, and let the better half of the trials go on with twice as many"
    )
    retry_failed: bool = setting(False, "try the trials again that have failed before")
    status: bool = setting(False, "only show how the sweep of this name stands")
    folder: str = setting(
        "logs", "on this machine, for the list of trials where --output is no bucket; and for the runs of --local"
    )
    json: bool = setting(False, "one JSON object a line, for programs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepFlags(SweepSettings, SubmitFlags):
    """The flags of a sweep on a cluster."""

    def check_trials(self) -> None:
        """Refuses what is not a trial's.

        Raises:
          UsageError: names the flag, and what to do.
        """
        for name, why in _NOT_OF_TRIALS.items():
            if getattr(self, name):
                raise UsageError(f"--{name} is not for a sweep: {why}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalSweepFlags(SweepSettings, LocalFlags):
    """The flags of a sweep on this machine."""

    workers: int = setting(1, "workers of a trial", minimum=1)
