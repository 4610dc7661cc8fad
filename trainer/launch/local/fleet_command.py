"""`python -m trainer.launch --local`: reads its flags, runs the fleet, shows the result."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainer.core import experiment_flags, installing, settings, shipped_code, typed_json
from trainer.core.exit_codes import ExitCode
from trainer.core.result_figures import figure, metrics
from trainer.core.run_dir import RESULT, folder_of_run
from trainer.launch import code_folder
from trainer.launch.checks.code_check import check_module
from trainer.launch.code_folder import Code
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.flags import PROGRAM
from trainer.launch.local.flags import LocalFlags, check
from trainer.launch.local.fleet import Fleet
from trainer.launch.local.view import JsonFleetView, open_fleet_view
from trainer.launch.report.verdict import ending_lines, report_lines


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
    code = code_folder.read(flags.code) if flags.code else None
    with code_folder.importable(code):
        config, unchecked = experiment_flags.parse(trainer_argv)
    if code:
        check_module(code, config.experiment)
    if importlib.util.find_spec("tensorflow") is None:  # It is not imported here: the launcher may be without it.
        print(
            "error: --local trains on this machine, and this Python has no TensorFlow; install it: "
            + installing.training(),
            file=sys.stderr,
        )
        return ExitCode.USAGE  # What training itself ends with.
    config = dataclasses.replace(config, run_dir=str(folder_of_run(config.run_dir)))
    also = experiment_flags.over_model(config, trainer_argv)
    training, run_dir = [*settings.arguments(config, also=also), *unchecked], pathlib.Path(config.run_dir)
    with contextlib.ExitStack() as stack:
        if code and not flags.json:
            print(f"code: {code}", flush=True)
        if code and (failed := stack.enter_context(_unpacked(code, config.run_dir))):
            return failed
        if flags.json:
            json_view = JsonFleetView()
            fleet = Fleet(flags, training, json_view)
            ended = fleet.run()
            json_view.end(ended, fleet.headline, _result(run_dir) if ended == LaunchCode.DONE else None)
            return ended
        ended = Fleet(flags, training, stack.enter_context(open_fleet_view(flags.workers))).run()
    if ended == LaunchCode.DONE:
        print(_result_text(run_dir, _result(run_dir)))
    return ended


@contextlib.contextmanager
def _unpacked(code: Code, run_dir: str) -> Iterator[int]:
    """A copy of the code, which agents find inside of the block: what is edited meanwhile changes no run.

    Yields:
      0, or the exit code of the program that unpacks it, which has said why.
    """
    with tempfile.TemporaryDirectory(prefix="trainer-code-") as folder:
        archive = pathlib.Path(folder) / shipped_code.ARCHIVE
        archive.write_bytes(code.archive)
        command = [sys.executable, "-m", "trainer.agent.shipped_code", run_dir, str(archive), folder]
        failed = subprocess.run(command).returncode
        os.environ["PYTHONPATH"] = shipped_code.python_path(pathlib.Path(folder), os.environ.get("PYTHONPATH", ""))
        yield failed


def _result(run_dir: pathlib.Path) -> dict[str, Any]:
    """What the run ended with.

    Raises:
      LaunchError: it cannot be read.
    """
    try:
        return typed_json.an_object(json.loads((run_dir / RESULT).read_text()), RESULT)
    except (OSError, ValueError) as error:
        raise LaunchError(f"the run has ended well, and {run_dir / RESULT} cannot be read: {error}") from None


def _result_text(run_dir: pathlib.Path, result: Mapping[str, Any]) -> str:
    """The result of a run that succeeded, for a person."""
    measured = metrics(result)
    shown = {name: value for name, value in measured.items() if name.startswith("val_")} or measured
    figures = [f"{name} {value:.4f}" for name, value in reversed(shown.items())]
    figures += [f"{figure(result, 'seconds'):.1f} s", f"{figure(result, 'restarts'):.0f} restart(s)"]
    lines = [
        f"succeeded: {', '.join(figures)}",
        *ending_lines(result),
        f"run directory: {run_dir} (tensorboard --logdir {run_dir.parent})",
        *report_lines(str(run_dir), result),
    ]
    return "\n".join(lines)
