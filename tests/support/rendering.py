"""What `helm template` makes of the chart; needs helm and helm3 on PATH, as `make test-chart` builds them."""

import subprocess
from typing import Any

import yaml

from tests.support.paths import CHART

HELMS = ("helm", "helm3")
Json = dict[str, Any]


def template(*arguments: str, helm: str = "helm", release: str = "mnist-train") -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm, "template", release, str(CHART), *arguments], capture_output=True, text=True)


def objects(*sets: str, helm: str = "helm", release: str = "mnist-train") -> dict[str, Json]:
    """The rendered objects by kind; `sets` are `key=value`, the value JSON."""
    arguments = [argument for each in sets for argument in ("--set-json", each)]
    done = template(*arguments, helm=helm, release=release)
    assert done.returncode == 0, done.stderr
    return {value["kind"]: value for value in yaml.safe_load_all(done.stdout) if value}


def job(*sets: str, **options: str) -> Json:
    return objects(*sets, **options)["Job"]


def pod(*sets: str) -> Json:
    spec: Json = job(*sets)["spec"]["template"]["spec"]
    return spec


def worker(*sets: str) -> Json:
    container: Json = pod(*sets)["containers"][0]
    return container


def arguments(*sets: str) -> list[str]:
    args: list[str] = worker(*sets)["args"]
    return args
