"""The helm program: where it is, which version it is, running it."""

import contextlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

from trainer.launch.codes import LaunchCode, LaunchError

_OLDEST = (3, 14)
_SECONDS = 300
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class HelmError(LaunchError):
    """Helm refused or failed; its own words are in the text."""

    def __init__(self, text: str, *, refused: bool = False) -> None:
        """`refused`: helm works, and does not take what it was given."""
        super().__init__(text)
        self.refused = refused


def path(helm: str) -> str:
    """Where helm is.

    Args:
      helm: its name, which is looked for on PATH, or its path.

    Raises:
      LaunchError: it is not there.
    """
    found = shutil.which(helm)
    if found is None:
        raise LaunchError(
            f"{helm!r} was not found on PATH; install Helm 3 or 4 (https://helm.sh/docs/intro/install), or name it: "
            "--helm=/path/to/helm",
            LaunchCode.NOT_STARTED,
        )
    return found


def version(helm: str) -> str:
    """Helm's version, such as v4.3.1.

    Raises:
      LaunchError: it is not there, does not run, or is too old.
    """
    program = path(helm)
    try:
        done = subprocess.run(
            [program, "version", "--template", "{{.Version}}"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"{program} does not run: {error}", LaunchCode.NOT_STARTED) from None
    answer = done.stdout.strip()
    numbers = re.match(r"v?(\d+)\.(\d+)", answer)
    if done.returncode or numbers is None:
        text = _error_text(done.stderr) or answer
        raise LaunchError(f"{program} does not say its version: {text!r}", LaunchCode.NOT_STARTED)
    if (int(numbers[1]), int(numbers[2])) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        text = f"{program} is {answer}; expected at least {oldest}, install a newer one"
        raise LaunchError(text, LaunchCode.NOT_STARTED)
    return answer


def run(helm: str, *arguments: str, stdin: str | None = None) -> str:
    """Runs helm; returns what it prints.

    Raises:
      LaunchError: it is not there.
      HelmError: it refused or failed.
    """
    program = path(helm)
    try:
        done = subprocess.run(
            [program, *arguments],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            start_new_session=True,  # So that Ctrl-C does not reach helm, which would leave a release half made.
        )
    except subprocess.TimeoutExpired:
        raise HelmError(f"helm {arguments[0]} did not end within {_SECONDS} s") from None
    except OSError as error:
        raise HelmError(f"{program} does not run: {error.strerror}") from None
    if done.returncode:
        text = _error_text(done.stderr) or f"it ended with {done.returncode} and said nothing"
        refused = done.returncode > 0 and "Error: " in done.stderr
        raise HelmError(f"helm {arguments[0]} failed: {text}", refused=refused)
    return done.stdout


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Lets helm finish what it changes; a signal that came meanwhile counts afterwards.

    Raises:
      KeyboardInterrupt: a signal came.
    """
    interrupted = False

    def wait(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        print("interrupted; waiting for helm to finish", file=sys.stderr, flush=True)

    handlers = {number: signal.signal(number, wait) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if interrupted:
        raise KeyboardInterrupt


def _error_text(stderr: str) -> str:
    """Helm's error, without warnings and without the word before it."""
    lines = [line for line in stderr.strip().splitlines() if not line.startswith(("WARNING:", "level=WARN"))]
    return "\n".join(lines).removeprefix("Error: ").strip()
