"""The chart, through helm 3 or 4: what it would make, installing it, removing it."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from trainer.core.exit_codes import UsageError
from trainer.launch.codes import LaunchCode, LaunchError

_OLDEST = (3, 14)
_SECONDS = 300
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Json = dict[str, Any]


class HelmError(LaunchError):
    """Helm refused or failed; its own words are in the text."""

    def __init__(self, text: str, *, refused: bool = False) -> None:
        """`refused`: helm did its work, and does not take what it was given."""
        super().__init__(text)
        self.refused = refused


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart, a release of it to be, and the values."""

    helm: str
    folder: str
    release: str
    namespace: str
    context: str  # The kubeconfig's; "" for its current one, or inside a cluster.
    files: tuple[str, ...] = ()  # The user's values.
    own: Json = dataclasses.field(default_factory=dict)  # Given on standard input; stronger than the files.
    sets: tuple[str, ...] = ()  # Stronger than both.

    def check(self) -> None:
        """Looks whether the folder and the files are there.

        Raises:
          UsageError: names what is missing.
        """
        if not os.path.isfile(os.path.join(self.folder, "Chart.yaml")):  # It takes any text; pathlib raises.
            raise UsageError(
                f"--chart={self.folder} is no chart: {self.folder}/Chart.yaml is not there; name the folder `helm` of "
                "this repository"
            )
        for file in self.files:
            if not os.path.isfile(file):
                raise UsageError(f"--values={file} is not a file")
        for pair in self.sets:
            if "=" not in pair:
                raise UsageError(f"--set={pair} is not of the form key=value")

    def gives(self, *keys: str) -> bool:
        """Whether the user's files, --set or the launcher's own values say the value at these keys.

        Raises:
          UsageError: a file cannot be read, or the strongest of them says null, which takes the chart's default away.
        """
        said = [_at(values, keys) for file in self.files for values in _documents(file)]
        said.append(_at(self.own, keys))
        name = re.escape(".".join(keys))
        said += [match[2] for pair in self.sets for match in re.finditer(rf"(^|,){name}=([^,]*)", pair)]
        given = [value for value in said if value is not _NOT_SAID]
        if given and given[-1] in (None, "null"):
            raise UsageError(f"{'.'.join(keys)} is given as null; expected a value, or leave it out")
        return bool(given)

    def render(self) -> str:
        """The manifests that would be made; asks no cluster.

        Raises:
          UsageError: values that the chart refuses.
          HelmError: helm itself failed.
        """
        try:
            return self._run("template", self.release, self.folder, *self._values(), cluster=False)
        except HelmError as error:
            if error.refused:
                raise UsageError(str(error)) from None
            raise

    def upgrade(self) -> None:
        """Installs the release, or makes it anew with these values; a signal waits until that is done.

        Raises:
          HelmError: with helm's words.
          KeyboardInterrupt: it is done, and a signal came meanwhile.
        """
        with _undisturbed():
            self._run("upgrade", "--install", "--cleanup-on-fail", self.release, self.folder, *self._values())

    def uninstall(self) -> None:
        """Removes the release and waits until its objects are gone; raises as `upgrade`."""
        with _undisturbed():
            self._run("uninstall", self.release, "--ignore-not-found", "--wait", "--cascade", "foreground")

    def deployed(self) -> bool:
        """Whether there is such a release.

        Raises:
          HelmError: with helm's words.
        """
        try:
            self._run("status", self.release)
        except HelmError as error:
            if "not found" in str(error):
                return False
            raise
        return True

    def installed(self) -> list[Json]:
        """The objects that the release was made of, whether they still are or not.

        Raises:
          HelmError: with helm's words, as where there is no such release.
        """
        return objects(self._run("get", "manifest", self.release))

    def _values(self) -> list[str]:
        files = [argument for file in self.files for argument in ("--values", file)]
        own = ["--values", "-"] if self.own else []
        return [*files, *own, *(argument for pair in self.sets for argument in ("--set", pair))]

    def _run(self, *arguments: str, cluster: bool = True) -> str:
        command = [program(self.helm), *arguments, "--namespace", self.namespace or "default"]
        if cluster and self.context:
            command += ["--kube-context", self.context]
        try:
            done = subprocess.run(
                command,
                input=json.dumps(self.own) if "-" in arguments else None,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_SECONDS,
                start_new_session=True,  # Ctrl-C shall not leave a release half made.
            )
        except subprocess.TimeoutExpired:
            raise HelmError(f"helm {arguments[0]} did not end within {_SECONDS} s") from None
        except OSError as error:
            raise HelmError(f"{command[0]} does not run: {error.strerror}") from None
        if done.returncode:
            why = _words(done.stderr) or f"it ended with {done.returncode} and no word"
            refused = done.returncode > 0 and "Error: " in done.stderr
            raise HelmError(f"helm {arguments[0]} failed: {why}", refused=refused)
        return done.stdout


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Lets helm finish, so that nothing is half made or half removed; then a signal that came counts."""
    came: list[int] = []

    def wait(number: int, _: object) -> None:
        came.append(number)
        print("interrupted; helm is let finish first", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, wait) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def program(helm: str) -> str:
    """Where helm is.

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
    path = program(helm)
    try:
        done = subprocess.run(
            [path, "version", "--template", "{{.Version}}"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"{path} does not run: {error}", LaunchCode.NOT_STARTED) from None
    said = done.stdout.strip()
    match = re.match(r"v?(\d+)\.(\d+)", said)
    if done.returncode or match is None:
        raise LaunchError(f"{path} does not say its version: {(_words(done.stderr) or said)!r}", LaunchCode.NOT_STARTED)
    if (int(match[1]), int(match[2])) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise LaunchError(f"{path} is {said}; expected at least {oldest}, install a newer one", LaunchCode.NOT_STARTED)
    return said


def objects(manifests: str) -> list[Json]:
    """The objects in rendered manifests, without those of `helm test`.

    Raises:
      HelmError: they are none.
    """
    try:
        found = [value for value in yaml.load_all(manifests, Loader=_LOADER) if value]  # A safe loader.
        return [value for value in found if "helm.sh/hook" not in value["metadata"].get("annotations", {})]
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError):
        raise HelmError(f"helm gave something else than Kubernetes' objects: {manifests[:60]!r}") from None


def the_job(rendered: Sequence[Json]) -> Json:
    """The Job among them.

    Raises:
      UsageError: there is none.
    """
    for value in rendered:
        if value.get("kind") == "Job":
            return value
    raise UsageError("this chart makes no Job; name the folder `helm` of this repository with --chart")


_NOT_SAID = object()


def _at(values: Any, keys: Sequence[str]) -> Any:
    """The value at these keys; `_NOT_SAID` where there is none."""
    for key in keys:
        if not isinstance(values, dict) or key not in values:
            return _NOT_SAID
        values = values[key]
    return values


def _documents(file: str) -> list[Any]:
    try:
        return list(yaml.load_all(pathlib.Path(file).read_text(), _LOADER))
    except OSError as error:
        raise UsageError(f"--values={file} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"--values={file} cannot be read as YAML: {' '.join(str(error).split())}") from None


def _words(stderr: str) -> str:
    """What helm says, without its preamble."""
    lines = [line for line in stderr.strip().splitlines() if not line.startswith(("WARNING:", "level=WARN"))]
    return "\n".join(lines).removeprefix("Error: ").strip()
