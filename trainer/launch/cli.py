"""`python -m trainer.launch`: starts training and says how it ended and why."""

import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

from trainer.core import settings
from trainer.core.exit_codes import UsageError
from trainer.launch.codes import LaunchCode, LaunchError
from trainer.launch.flags import PROGRAM, Attach, Logs, Look, Submit, Target, Where, check

_USAGE = f"""\
usage: {PROGRAM} [command] [flags] [-- flags of the training program]

  submit   check, submit and watch a run to its end (the default)
  attach   watch a run that was submitted before
  status   how a run stands, or how it ended
  logs     the log of the chief, of a worker, of all
  list     the runs of the namespace
  delete   remove a run and all that was made for it
  doctor   only the checks that submit does first

--local (with submit) runs the workers as processes on this machine. `{PROGRAM} <command> --help` lists the flags.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the launcher; returns its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # Closed, as with `>&-`.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # A terminal of another encoding shows what it can.
            stream.reconfigure(errors="replace")
    try:
        code = _outcome(*settings.split(list(sys.argv[1:] if argv is None else argv)))
        sys.stdout.flush()
    except BrokenPipeError:  # Nobody reads the output any more, as with `| head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # What Python still flushes at exit.
        return LaunchCode.FAILED
    return code


def _outcome(own: list[str], trainer_argv: list[str]) -> int:
    """The exit code; errors are said."""
    try:
        return _dispatch(own, trainer_argv)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return LaunchCode.USAGE
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return LaunchCode.INTERRUPTED
    except SystemExit as ended:  # After --help.
        return int(ended.code or 0)


def _dispatch(own: list[str], trainer_argv: list[str]) -> int:
    if any(argument in ("--local", "--local=true", "-local") for argument in own):
        from trainer.launch.local import fleet

        return fleet.main([argument for argument in own if argument != "submit"], trainer_argv)
    verb = own.pop(0) if own and not own[0].startswith("-") else "submit"
    if verb == "submit" and own and own[0] in ("--help", "-h"):
        print(_USAGE)
    commands: dict[str, tuple[type[Where], str]] = {
        "submit": (Submit, "submit"),
        "doctor": (Submit, "doctor"),
        "attach": (Attach, "attach"),
        "status": (Look, "status"),
        "logs": (Logs, "logs"),
        "list": (Where, "list_runs"),
        "delete": (Target, "delete"),
    }
    if verb not in commands:
        raise UsageError(f"{verb!r} is none of the commands: {', '.join(commands)} (`{PROGRAM} --help`)")
    kind, name = commands[verb]
    config = settings.parse(kind, own, program=f"{PROGRAM} {verb}")
    check(config)
    if trainer_argv and not isinstance(config, Submit):
        raise UsageError(f"{verb} takes no flags of the training program, got {' '.join(trainer_argv)!r} after --")
    for number in (signal.SIGINT, signal.SIGTERM):  # A shell starts what runs in its background with SIGINT ignored.
        signal.signal(number, _interrupt)
    from trainer.launch import commands as does  # The client library takes a moment; flags are refused before it.

    run: Callable[..., int] = getattr(does, name)
    return run(config, trainer_argv) if isinstance(config, Submit) else run(config)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
