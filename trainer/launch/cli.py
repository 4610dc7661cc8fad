"""`python -m trainer.launch`: reads the command and its flags, and runs it."""

import os
import signal
import sys
from collections.abc import Sequence

from trainer.core import settings
from trainer.core.exit_codes import UsageError
from trainer.core.process import make_outputs_usable
from trainer.core.safe_text import printable
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.flags import (
    PROGRAM,
    AttachFlags,
    ChartFlags,
    LogsFlags,
    ReleaseFlags,
    StatusFlags,
    SubmitFlags,
    check,
)
from trainer.launch.helm import own_files
from trainer.launch.runs.flags import ListFlags, ShowFlags
from trainer.launch.sweep.flags import SweepFlags

_USAGE = f"""\
usage: {PROGRAM} [command] [flags] [-- flags of the training program]

  submit   check, submit and watch a run to its end (the default)
  attach   watch a run that was submitted before
  status   how a run stands, or how it ended
  logs     the log of the chief, of a worker, of all
  list     the runs of the namespace, or with --output=... those that are kept there
  show     one kept run: how it went, its curves
  sweep    many runs that differ in some flags, a few at a time
  delete   remove a run and all that was made for it
  doctor   only the checks that submit does first
  chart    write out the chart that it submits, to look at or to change

--local (with submit and sweep) runs the workers as processes on this machine.
`{PROGRAM} <command> --help` lists the flags.
"""

COMMAND_FLAGS: dict[str, type] = {
    "submit": SubmitFlags,
    "doctor": SubmitFlags,
    "attach": AttachFlags,
    "status": StatusFlags,
    "logs": LogsFlags,
    "list": ListFlags,
    "show": ShowFlags,
    "sweep": SweepFlags,
    "delete": ReleaseFlags,
    "chart": ChartFlags,
}
"""The flags of each command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the launcher; returns its exit code."""
    make_outputs_usable()
    try:
        code = _exit_code(*settings.split(list(sys.argv[1:] if argv is None else argv)))
        sys.stdout.flush()
    except BrokenPipeError:  # Nobody reads the output any more, as with `| head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python still flushes its buffer at exit.
        return LaunchCode.FAILED
    return code


def _exit_code(argv: list[str], trainer_argv: list[str]) -> int:
    """Runs the command; prints its error, if it ends with one."""
    try:
        return _run(argv, trainer_argv)
    except UsageError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return LaunchCode.USAGE
    except LaunchError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return LaunchCode.INTERRUPTED
    except SystemExit as end:  # After --help.
        return int(end.code or 0)


def _run(argv: list[str], trainer_argv: list[str]) -> int:
    command = argv.pop(0) if argv and not argv[0].startswith("-") else "submit"
    if command not in COMMAND_FLAGS:
        raise UsageError(f"{command!r} is none of the commands: {', '.join(COMMAND_FLAGS)} (`{PROGRAM} --help`)")
    if command == "submit" and settings.switched_on("local", argv, program=PROGRAM):
        from trainer.launch.local import fleet_command

        return fleet_command.run(argv, trainer_argv)
    if command == "sweep":
        from trainer.launch.sweep import command as sweep_command

        return sweep_command.run(argv, trainer_argv)
    if command == "submit" and argv and argv[0] in ("--help", "-h"):
        print(_USAGE)
    if command == "show" and argv and not argv[0].startswith("-"):
        argv[0] = f"--run={argv[0]}"
    flags: object = settings.parse(COMMAND_FLAGS[command], argv, program=f"{PROGRAM} {command}")
    if trainer_argv and not isinstance(flags, SubmitFlags):
        raise UsageError(f"{command} takes no flags of the training program, got {' '.join(trainer_argv)!r} after --")
    if isinstance(flags, ChartFlags):
        own_files.write_out(own_files.manifests() if flags.manifests else own_files.chart(), flags.to)
        return LaunchCode.DONE
    check(flags)
    if isinstance(flags, ListFlags):
        flags.check()
    for number in (signal.SIGINT, signal.SIGTERM):  # A shell starts what runs in its background with SIGINT ignored.
        signal.signal(number, _interrupt)
    from trainer.launch import commands  # The imports take a moment: flags are refused before them.
    from trainer.launch.runs import commands as run_commands

    match command, flags:
        case "submit", SubmitFlags():
            return commands.submit(flags, trainer_argv)
        case "doctor", SubmitFlags():
            return commands.doctor(flags, trainer_argv)
        case "attach", AttachFlags():
            return commands.attach(flags)
        case "status", StatusFlags():
            return commands.status(flags)
        case "logs", LogsFlags():
            return commands.logs(flags)
        case "delete", ReleaseFlags():
            return commands.delete(flags)
        case "show", ShowFlags():
            return run_commands.show(flags)
        case "list", ListFlags(output=""):
            return commands.list_runs(flags)
        case "list", ListFlags():
            return run_commands.list_stored(flags)
    raise AssertionError(f"{command} has no program")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
