"""The experiment that a run trains: a user's module, imported and checked."""

import dataclasses
import importlib
import inspect
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from trainer.core import experiment_flags
from trainer.core.config import Config
from trainer.core.exit_codes import UsageError

Preprocess = Callable[[Any, Any, Any, bool], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What an experiment's module has. See docs/experiments.md."""

    name: str
    load_data: Callable[[Config], Any]
    build_model: Callable[[Config], Any]
    preprocess: Preprocess | None = None
    steps_per_epoch: Callable[[Config], int] | None = None
    on_epoch_end: Callable[[int, dict[str, float]], Any] | None = None
    flags: type | None = None


_ARGUMENTS = {"load_data": 1, "build_model": 1, "preprocess": 4, "steps_per_epoch": 1, "on_epoch_end": 2}
_NEEDED = ("load_data", "build_model")
_NOT_OWN = re.compile(rf"site-packages|/lib/python|^{re.escape(__file__)}$")  # Of a frame's file.


def load(name: str) -> Experiment:
    """Imports an experiment.

    Raises:
      UsageError: there is no such module, it needs another that is not there, or it lacks what an experiment has.
    """
    module = _imported(name)
    missing = [function for function in _NEEDED if not callable(getattr(module, function, None))]
    if missing:
        raise UsageError(f"--experiment={name} lacks {' and '.join(missing)}; see trainer/mnist.py for what they do")
    functions: dict[str, Any] = {function: getattr(module, function, None) for function in _ARGUMENTS}
    for function, count in _ARGUMENTS.items():
        if functions[function] is not None:
            _check_arguments(name, function, functions[function], count)
    flags = getattr(module, experiment_flags.NAME, None)
    return Experiment(name=name, flags=flags if isinstance(flags, type) else None, **functions)


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(
                f"--experiment={name} cannot be imported ({error}); name a module on the Python path, as package.module"
            ) from None
        raise UsageError(
            f"--experiment={name} needs the module {error.name}, which is not installed here; install it, or leave it "
            "out of the experiment"
        ) from None
    except ImportError as error:
        raise UsageError(f"--experiment={name} cannot be imported: {error}{_where(error)}") from None
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}"
        raise UsageError(f"--experiment={name} cannot be imported: {error.msg} ({place})") from None
    except SystemExit as error:  # Which a process would end with as if all were done.
        raise UsageError(
            f"--experiment={name} cannot be imported: it ended the process by exit({error.code!r}); raise an error "
            "that says why, and leave flags of its own to `Flags`"
        ) from None
    except Exception as error:
        if name.startswith(".") or not name:
            raise UsageError(f"--experiment={name} names no module ({error}); expected package.module") from None
        traceback.print_exc()  # The user's own code.
        raised = f"{type(error).__name__}: {error}{_where(error)}"
        raise UsageError(f"--experiment={name} cannot be imported: it raised {raised}") from None


def _where(error: Exception) -> str:
    """The innermost line of the user's own code in a traceback, for the end of a sentence; "" where there is none."""
    files = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [(file, line) for file, line in files if not file.startswith("<") and not _NOT_OWN.search(file)]
    return f" ({Path(own[-1][0]).name}:{own[-1][1]})" if own else ""


def _check_arguments(name: str, function: str, value: Any, count: int) -> None:
    try:
        inspect.signature(value).bind(*[None] * count)
    except TypeError as error:
        raise UsageError(
            f"--experiment={name}: {function} is called with {count} argument(s) and does not take them ({error}); see "
            "docs/experiments.md for what it is given"
        ) from None
    except ValueError:  # A function without a signature that can be read.
        return
