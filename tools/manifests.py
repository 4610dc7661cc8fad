"""Makes what is made from the chart or for it: its schema's flags, its README, its golden file, the manifests in k8s/.

`python -m tools.manifests` (`make manifests`) writes them; with --check it compares, and says which are out of date.
The manifests are what the chart renders, with a fixed name for the Job, as kustomize arranges such things: the base
trains on CPUs, and the overlay `gpu` is the difference to what the chart renders for GPUs.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any

import yaml

from trainer.agent.flags import AgentConfig
from trainer.core import settings
from trainer.core.config import Config
from trainer.core.json_types import Json

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHART = ROOT / "helm"
VALUES = CHART / "values.yaml"
SCHEMA = CHART / "values.schema.json"
README = CHART / "README.md"
GOLDEN = ROOT / "tests/golden/chart.yaml"
RELEASE = "mnist-train"

SET_BY_CHART = {
    Config: ("run_dir", "expect_gpus", "mode"),
    AgentConfig: ("output", "min_workers", "tensorboard", "tensorboard_port", "port", "chief_agent", "grace"),
}
"""Flags that follow from other values, and so are none of `train` and `agent`."""

_NUMBER = r"[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?"
_POSITIVE = r"([0-9]*[1-9][0-9]*(\.[0-9]+)?|[0-9]*\.[0-9]*[1-9][0-9]*)([eE][-+]?[0-9]+)?"
_BELOW_1 = r"(0+|0*\.[0-9]+)([eE]-[0-9]+)?|[0-9](\.[0-9]+)?[eE]-0*[1-9][0-9]*"
_AS_TEXT: dict[tuple[tuple[str, float], ...], str] = {
    (): f"-?{_NUMBER}",
    (("minimum", 0),): _NUMBER,
    (("exclusiveMinimum", 0),): _POSITIVE,
    (("exclusiveMaximum", 1), ("minimum", 0)): _BELOW_1,
}
"""What a fraction within these bounds looks like: `--set train.momentum=0.5` brings it as text, which has no bounds."""

_BOUNDS = {"minimum", "exclusiveMinimum", "exclusiveMaximum"}

_GENERATED = "# Made from the chart by `make manifests`; change the chart instead.\n"


def schema(text: str) -> str:
    """The chart's schema with the flags of both programs as they are now, and with every default as required.

    Args:
      text: the schema as it stands; all but `train`, `agent`, `mode` and what is required is kept.
    """
    value = json.loads(text)
    for key, config in (("train", Config), ("agent", AgentConfig)):
        flags = settings.schema(config)
        flags["properties"] = {
            name: rule for name, rule in flags["properties"].items() if name not in SET_BY_CHART[config]
        }
        for name, rule in flags["properties"].items():
            if rule.get("type") == "number":
                bounds = tuple(sorted((bound, rule[bound]) for bound in _BOUNDS & set(rule)))
                if bounds not in _AS_TEXT:
                    raise ValueError(f"{key}.{name} has the bounds {bounds}: _AS_TEXT needs a pattern for them")
                rule |= {"type": ["number", "string"], "pattern": f"^({_AS_TEXT[bounds]})$"}
        value["properties"][key] = flags
    value["properties"]["mode"] = settings.schema(Config)["properties"]["mode"]
    _require(value, yaml.safe_load(VALUES.read_text()))
    return json.dumps(value, indent=2) + "\n"


def _require(rule: Json, defaults: Json) -> None:
    """Makes every key required that has a default: Helm takes a key away that is given as null, as by a blank line."""
    if "properties" not in rule:
        return
    rule["required"] = sorted(key for key, default in defaults.items() if default is not None and key != "global")
    for key, default in defaults.items():
        if isinstance(default, dict):
            _require(rule["properties"][key], default)


def render(helm: str, *arguments: str) -> list[Json]:
    """The chart's objects.

    Args:
      helm: the program.
      arguments: more of `helm template`.
    """
    command = [helm, "template", RELEASE, str(CHART), *arguments]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [value for value in yaml.safe_load_all(text) if value]


def readme(helm_docs: str) -> str:
    """The chart's README: README.md.gotmpl with a table of the comments in values.yaml."""
    command = [helm_docs, "--dry-run", "--chart-search-root", str(CHART), "--sort-values-order", "file"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.rstrip("\n") + "\n"


def plain(objects: list[Json]) -> list[Json]:
    """The objects as a person would write them: without Helm's test and labels, and a Job without a checksum."""
    objects = [value for value in objects if "helm.sh/hook" not in value["metadata"].get("annotations", {})]
    job = next(value for value in objects if value["kind"] == "Job")["metadata"]["name"]
    values: list[Json] = json.loads(re.sub(re.escape(job), RELEASE, json.dumps(objects)))
    for value in values:
        del value["metadata"]["labels"]["app.kubernetes.io/managed-by"]
        del value["metadata"]["labels"]["helm.sh/chart"]
    return values


def manifests(helm: str) -> dict[str, str]:
    """The text of each file of k8s/, by its path in it."""
    cpu = plain(render(helm, "--values", str(CHART / "values-cpu.yaml"), "--set", "workers=4"))
    gpu = plain(render(helm))
    files = {f"base/{_file(value)}": _yaml(value) for value in cpu}
    files["base/kustomization.yaml"] = _kustomization(resources=sorted(_file(value) for value in cpu))
    patches = []
    for before, after in zip(cpu, gpu, strict=True):
        if operations := _difference(before, after):
            target = {"kind": after["kind"], "name": after["metadata"]["name"]}
            patches.append({"target": target, "path": _file(after)})
            files[f"overlays/gpu/{_file(after)}"] = _yaml(operations)
    image, tag = _image(cpu)
    images = [{"name": image, "newName": image, "newTag": tag}]
    files["overlays/cpu/kustomization.yaml"] = _kustomization(resources=["../../base"], images=images)
    files["overlays/gpu/kustomization.yaml"] = _kustomization(resources=["../../base"], patches=patches, images=images)
    return files


def _difference(before: Any, after: Any, path: str = "") -> list[Json]:
    """A JSON patch (RFC 6902) that turns `before` into `after`; lists of another length are replaced whole."""
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        operations: list[Json] = []
        for key in sorted({*before, *after}):
            where = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in after:
                operations.append({"op": "remove", "path": where})
            elif key not in before:
                operations.append({"op": "add", "path": where, "value": after[key]})
            else:
                operations += _difference(before[key], after[key], where)
        return operations
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [each for index, (old, new) in pairs for each in _difference(old, new, f"{path}/{index}")]
    return [{"op": "replace", "path": path, "value": after}]


def _file(value: Json) -> str:
    suffix = value["metadata"]["name"].removeprefix(RELEASE)
    return f"{value['kind'].lower()}{suffix}.yaml"


def _image(objects: list[Json]) -> tuple[str, str]:
    job = next(value for value in objects if value["kind"] == "Job")
    name, _, tag = job["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")
    return name, tag


def _kustomization(**fields: Any) -> str:
    return _yaml({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **fields})


def _yaml(value: Any) -> str:
    return _GENERATED + yaml.safe_dump(value, sort_keys=False, width=120)


def main() -> int:
    """Writes or compares; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    parser.add_argument("--helm", default="helm", help="the program")
    parser.add_argument("--helm_docs", default="helm-docs", help="the program")
    options = parser.parse_args()
    wanted = {SCHEMA: schema(SCHEMA.read_text())}
    if not options.check:
        SCHEMA.write_text(wanted[SCHEMA])
    if options.check or shutil.which(options.helm_docs):
        wanted[README] = readme(options.helm_docs)
    else:
        print(f"{README.relative_to(ROOT)} is left as it is: {options.helm_docs} is not on PATH", file=sys.stderr)
    wanted[GOLDEN] = yaml.safe_dump_all(render(options.helm), sort_keys=False, width=120)
    wanted |= {ROOT / "k8s" / name: text for name, text in manifests(options.helm).items()}
    found = {path for folder in ("base", "overlays") for path in (ROOT / "k8s" / folder).rglob("*.yaml")}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    stale += sorted(found - set(wanted))
    if options.check:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run `make manifests`", file=sys.stderr)
        return 1 if stale else 0
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in found - set(wanted):
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
