"""`python -m trainer.launch --local`: reads its flags, runs the fleet, shows the result."""

import dataclasses
import importlib.util
import json
import pathlib
import sys
from collections.abc import Sequence

from trainer.core import experiment_flags, settings, typed_json
from trainer.core.exit_codes import ExitCode
from trainer.core.result_figures import figure, metrics
from trainer.core.run_dir import RESULT, default_run_dir
from trainer.launch.codes import LaunchCode
from trainer.launch.flags import PROGRAM
from trainer.launch.local.flags import LocalFlags, check
from trainer.launch.local.fleet import Fleet
from trainer.launch.local.view import open_fleet_view
from trainer.launch.report.verdict import report_lines


def run(argv: Sequence[str], trainer_argv: Sequence[str]) -> int:
    """Runs a fleet on this machine; returns the launcher's exit code, or 64 where TensorFlow is not installed.

    Args:
      argv: the launcher's flags.
      trainer_argv: the training program's.

    Raises:
      UsageError: a flag that cannot be used.
      LaunchError: this machine does not have what so many workers need.
    """
    flags = settings.parse(LocalFlags, argv, program=f"{PROGRAM} --local")
    check(flags)
    config, unchecked = experiment_flags.parse(trainer_argv)
    config = dataclasses.replace(config, run_dir=config.run_dir or default_run_dir())
    if importlib.util.find_spec("tensorflow") is None:  # It is not imported here: the launcher may be without it.
        print(
            "error: --local trains on this machine, and this Python has no TensorFlow: `pip install "
            "'trainer[cpu]'`, or "
            "in a clone `make setup`, installs it",
            file=sys.stderr,
        )
        return ExitCode.USAGE  # What training itself ends with.
    with open_fleet_view(flags.workers) as view:
        code = Fleet(flags, [*settings.arguments(config), *unchecked], view).run()
    if code == LaunchCode.DONE:
        print(_result(pathlib.Path(config.run_dir)))
    return code


def _result(run_dir: pathlib.Path) -> str:
    """The result of a run that succeeded, for a person."""
    result = typed_json.an_object(json.loads((run_dir / RESULT).read_text()), RESULT)
    measured = metrics(result)
    shown = {name: value for name, value in measured.items() if name.startswith("val_")} or measured
    figures = [f"{name} {value:.4f}" for name, value in reversed(shown.items())]
    figures += [f"{figure(result, 'seconds'):.1f} s", f"{figure(result, 'restarts'):.0f} restart(s)"]
    lines = [
        f"succeeded: {', '.join(figures)}",
        f"run directory: {run_dir} (tensorboard --logdir {run_dir.parent})",
        *report_lines(str(run_dir), result),
    ]
    return "\n".join(lines)
