"""A release of the chart, through helm 3 or 4: what it would make, installing it, removing it."""

import dataclasses
import itertools
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import yaml

from trainer.core.exit_codes import UsageError
from trainer.core.json_types import Json
from trainer.launch.helm import given_values, helm_program, helm_set, rendered
from trainer.launch.helm.given_values import Source
from trainer.launch.helm.helm_program import HelmError

_NOT_GIVEN = object()
_COMPLAINT = re.compile(r"^\s*- at '(.*?)': (.*)$", re.MULTILINE)  # Of the schema: a JSON pointer, and what is wrong.
_FAILED = re.compile(r"execution error at \(\S+\): (.+)")  # Of a template.


@dataclasses.dataclass(frozen=True, kw_only=True)
class HelmRelease:
    """A release, whether it exists or not, and what it is to be made of.

    Where a value is given several times the last counts, in this order: the files, the flags, --set.
    """

    helm: str  # The program.
    name: str
    namespace: str
    context: str  # The kubeconfig's; "" for its current one, or inside a cluster.
    chart: str = ""  # The chart's folder.
    files: tuple[str, ...] = ()  # The user's files of values.
    flag_values: Json = dataclasses.field(default_factory=dict)  # The values that the launcher's flags give.
    sets: tuple[str, ...] = ()  # The user's --set.

    def validate(self) -> None:
        """Checks the chart's folder, the files of values and each --set.

        Raises:
          UsageError: names what is not there or cannot be read.
        """
        if not os.path.isfile(self._chart_file):  # It takes any text, where pathlib raises for some.
            raise UsageError(
                f"--chart={self.chart} is no chart: {self._chart_file} is not there; leave it out for the launcher's "
                "own, which `chart --to=FOLDER` writes out to be changed"
            )
        for file in self.files:
            if not os.path.isfile(file):
                raise UsageError(f"--values={file} is not a file")
            _documents(file)
        for text in self.sets:
            helm_set.parse(text)
        given_values.check(self.chart, self._sources())

    def contradictions(self) -> list[str]:
        """What the files, the flags and --set give differently, and which of them counts; of a file's own nothing."""
        apart = [Source("a --set", given_values.without_lists(helm_set.parse(text))) for text in self.sets]
        return [*given_values.contradictions(self._sources()), *given_values.contradictions(apart)]

    def gives(self, *keys: str) -> bool:
        """Whether the user's files, the flags or --set give the value at these keys, rather than the chart alone.

        Raises:
          UsageError: a file cannot be read, or the value is given as null, which takes the chart's default away.
        """
        sources = [values for file in self.files for values in _documents(file)]
        sources += [self.flag_values, *map(helm_set.parse, self.sets)]
        given = [value for values in sources if (value := _at(values, keys)) is not _NOT_GIVEN]
        if given and given[-1] is None:
            raise UsageError(f"{'.'.join(keys)} is given as null; expected a value, or leave it out")
        return bool(given)

    def value(self, *keys: str) -> Any:
        """What counts at these keys: the last that is given, or else the chart's own; None where there is neither."""
        return given_values.value(self.chart, self._sources(), keys)

    def oldest_kubernetes(self) -> tuple[int, int] | None:
        """The oldest version of Kubernetes that the chart takes, as (1, 33); None: it does not say."""
        chart = yaml.safe_load(pathlib.Path(self._chart_file).read_text())
        oldest = re.match(r">=\s*v?(\d+)\.(\d+)", str(chart.get("kubeVersion", "")))
        return (int(oldest[1]), int(oldest[2])) if oldest else None

    def render(self) -> str:
        """The manifests that would be made; asks no cluster.

        Raises:
          UsageError: values that the chart refuses.
          HelmError: helm itself failed.
        """
        try:
            return self._run("template", self.name, self.chart, *self._values(), stdin=self._stdin())
        except HelmError as error:
            if error.refused:
                raise UsageError(_refusal(str(error))) from None
            raise

    def upgrade(self) -> None:
        """Installs the release, or makes it anew with these values; a signal waits until that is done.

        Raises:
          HelmError: helm refused or failed.
          KeyboardInterrupt: it is done, and a signal came meanwhile.
        """
        install = ("upgrade", "--install", "--cleanup-on-fail", self.name, self.chart, *self._values())
        with helm_program.undisturbed():
            self._run(*install, *self._cluster(), stdin=self._stdin())

    def uninstall(self) -> None:
        """Removes the release; its objects are gone a little later. Raises as `upgrade`."""
        remove = ("uninstall", self.name, "--ignore-not-found", "--cascade", "foreground")
        with helm_program.undisturbed():
            self._run(*remove, *self._cluster())

    def exists(self) -> bool:
        """Whether helm knows the release.

        Raises:
          HelmError: helm refused or failed.
        """
        try:
            self._run("status", self.name, *self._cluster())
        except HelmError as error:
            if "release: not found" in str(error):  # Helm 3 and 4 say so; there is no exit code for it.
                return False
            raise
        return True

    def objects(self) -> list[Json]:
        """The objects that the release was made of, whether they still exist or not.

        Raises:
          HelmError: helm refused or failed, as where there is no such release.
        """
        return rendered.parse(self._run("get", "manifest", self.name, *self._cluster()))

    @property
    def _chart_file(self) -> str:
        return os.path.join(self.chart, "Chart.yaml")

    def _sources(self) -> list[Source]:
        """The values that were given, in the order in which they count; several --set are one."""
        files = [
            Source(f"--values={file}", values)
            for file in self.files
            for values in _documents(file)
            if isinstance(values, dict)
        ]
        sources = [*files, Source("the launcher's flags", self.flag_values)]
        return [*sources, Source("--set", self._changes())] if self.sets else sources

    def _changes(self) -> Json:
        """What --set changes of the files' and the flags' values."""
        before: Json = {}
        for values in [*(values for file in self.files for values in _documents(file)), self.flag_values]:
            before = helm_set.merged(before, values) if isinstance(values, dict) else before
        return given_values.texts(self.chart, helm_set.changed(self.sets, before))

    def _values(self) -> list[str]:
        arguments = [argument for file in self.files for argument in ("--values", file)]
        return [*arguments, "--values", "-"] if self.flag_values or self.sets else arguments

    def _stdin(self) -> str | None:
        """The values of the flags and of --set, which `--values -` reads.

        What stands in arguments is in the list of this machine's processes, and values may be secrets.
        """
        if not self.sets:
            return json.dumps(self.flag_values) if self.flag_values else None
        return json.dumps(helm_set.merged(self.flag_values, self._changes()), default=str)

    def _cluster(self) -> list[str]:
        return ["--kube-context", self.context] if self.context else []

    def _run(self, *arguments: str, stdin: str | None = None) -> str:
        return helm_program.run(self.helm, *arguments, "--namespace", self.namespace or "default", stdin=stdin)


def _refusal(text: str) -> str:
    """Why the chart refuses values, in one line, out of what helm says of it."""
    complaints = [(key, why) for key, why in _COMPLAINT.findall(text) if why != "validation failed"]
    if complaints:
        return f"the chart refuses these values: {'; '.join(itertools.starmap(_complaint, complaints))}"
    failed = _FAILED.search(text)
    return failed[1] if failed else " ".join(text.split())


def _complaint(pointer: str, why: str) -> str:
    keys = [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]
    unknown = re.fullmatch("additional properties (.*) not allowed", why)
    if unknown:
        names = (".".join([*keys, name]) for name in re.findall("'([^']*)'", unknown[1]))
        return f"there is no value {', '.join(names)}"
    return f"{'.'.join(keys)}: {why}" if keys else why


def _at(values: Any, keys: Sequence[str]) -> Any:
    """The value at these keys; `_NOT_GIVEN` where there is none."""
    for key in keys:
        if not isinstance(values, dict) or key not in values:
            return _NOT_GIVEN
        values = values[key]
    return values


def _documents(file: str) -> list[Any]:
    """The documents of a file of values."""
    try:
        text = pathlib.Path(file).read_text()
        documents = list(yaml.load_all(text, rendered.YAML_LOADER))  # Both loaders are safe.
        given_values.check_once(f"--values={file}", yaml.compose_all(text, rendered.YAML_LOADER))
        return documents
    except OSError as error:
        raise UsageError(f"--values={file} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"--values={file} cannot be read as YAML: {' '.join(str(error).split())}") from None
