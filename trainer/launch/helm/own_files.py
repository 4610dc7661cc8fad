"""The chart and the plain manifests that belong to this launcher: installed with it, or beside it in a clone."""

import pathlib
import shutil

import trainer
from trainer.core.exit_codes import UsageError

_PACKAGE = pathlib.Path(trainer.__file__).resolve().parent


def chart() -> pathlib.Path:
    """The folder of the chart."""
    return _folder("chart", "helm")


def manifests() -> pathlib.Path:
    """The folder of the manifests for `kubectl apply -k`."""
    return _folder("manifests", "k8s")


def write_out(source: pathlib.Path, to: str) -> None:
    """Copies one of these folders.

    Args:
      source: the folder.
      to: a folder that is not there yet, or empty.

    Raises:
      UsageError: it cannot be written there, or would be mixed with what is there.
    """
    if not to:
        raise UsageError("--to names the folder to write; it must not be there yet, or be empty")
    try:
        if pathlib.Path(to).exists() and (not pathlib.Path(to).is_dir() or any(pathlib.Path(to).iterdir())):
            raise UsageError(f"--to={to} is there and not empty; name a folder that is not there yet")
        shutil.copytree(source, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    except (OSError, ValueError, shutil.Error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"--to={to} cannot be written: {why}") from None


def _folder(installed: str, in_clone: str) -> pathlib.Path:
    """One of both.

    Raises:
      UsageError: neither is there.
    """
    for folder in (_PACKAGE / "launch" / installed, _PACKAGE.parent / in_clone):
        if folder.is_dir():
            return folder
    raise UsageError(
        f"this launcher was installed without its {installed}, as in the image of a worker; install the wheel, or name "
        "a chart with --chart"
    )
