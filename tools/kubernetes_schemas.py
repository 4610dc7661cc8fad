"""Writes tests/schemas/v1.*.json, when the chart uses another kind of object or is checked against another Kubernetes.

    python -m tools.kubernetes_schemas v1.33.13 ...     (`make schemas` names the versions)

A file has the JSON schemas of the kinds of objects that the chart renders, made from that version's own OpenAPI
description. They are strict: a field that the version does not know is an error. The description is part of the Go
module k8s.io/kubernetes, so this needs Go and the module proxy; the files are committed, and tests download nothing.
"""

import json
import pathlib
import subprocess
import sys
from typing import Any

import yaml

from tests.support.paths import SCHEMAS

KINDS = {
    "Deployment": "io.k8s.api.apps.v1.Deployment",
    "Ingress": "io.k8s.api.networking.v1.Ingress",
    "Job": "io.k8s.api.batch.v1.Job",
    "NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "Pod": "io.k8s.api.core.v1.Pod",
    "Service": "io.k8s.api.core.v1.Service",
    "ServiceAccount": "io.k8s.api.core.v1.ServiceAccount",
}
# Kinds of others, which a cluster has where they are installed: a module, the file in it that defines one, its version.
CUSTOM = (
    (
        "sigs.k8s.io/gateway-api@v1.6.0",
        "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
        "v1",
    ),
    (
        "github.com/prometheus-operator/prometheus-operator@v0.92.1",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "v1",
    ),
)
# The description calls these strings; the API takes them as numbers, too.
ALSO_NUMBERS = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}
_KEPT = {"type", "properties", "required", "items", "additionalProperties", "$ref", "enum", "minimum", "maximum"}
_PREFIX = "#/definitions/"
_METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

Json = dict[str, Any]


def schema(openapi: Json, custom: dict[str, Json]) -> Json:
    """One schema for all kinds, with only the definitions that they need.

    Args:
      openapi: the description of a version of Kubernetes.
      custom: the schemas of kinds of others.
    """
    definitions: Json = {kind: _strict(rule) for kind, rule in custom.items()}
    kinds = KINDS | {kind: kind for kind in custom}
    to_do = list(KINDS.values())
    while to_do:
        if (name := to_do.pop()) not in definitions:
            definitions[name] = ALSO_NUMBERS.get(name) or _strict(openapi["definitions"][name])
            to_do += _references(definitions[name])
    cases = [
        {"if": {"properties": {"kind": {"const": kind}}}, "then": {"$ref": _PREFIX + name}}
        for kind, name in kinds.items()
    ]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "required": ["apiVersion", "kind"],
        "properties": {"kind": {"enum": sorted(kinds)}},
        "allOf": cases,
        "definitions": dict(sorted(definitions.items())),
    }


def _strict(definition: Json) -> Json:
    kept = {key: _strict_value(key, value) for key, value in definition.items() if key in _KEPT}
    if "properties" in kept:
        kept.setdefault("additionalProperties", False)
    for group in definition.get("x-kubernetes-group-version-kind", ()):
        version = "/".join(filter(None, (group["group"], group["version"])))
        kept["properties"] |= {"apiVersion": {"const": version}, "kind": {"const": group["kind"]}}
    return kept


def _strict_value(key: str, value: Any) -> Any:
    if key == "properties":
        return {name: _strict(entry) for name, entry in value.items()}
    return _strict(value) if isinstance(value, dict) else value


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for entry in value for name in _references(entry)]
    if not isinstance(value, dict):
        return []
    reference = [value["$ref"].removeprefix(_PREFIX)] if isinstance(value.get("$ref"), str) else []
    return reference + [name for entry in value.values() for name in _references(entry)]


def custom_kind(module: str, file: str, version: str) -> tuple[str, Json]:
    """A kind that a CustomResourceDefinition makes, and its schema."""
    definition = yaml.safe_load((_download(module) / file).read_text())["spec"]
    kind = definition["names"]["kind"]
    (rule,) = [each["schema"]["openAPIV3Schema"] for each in definition["versions"] if each["name"] == version]
    rule["properties"]["metadata"] = {"$ref": _PREFIX + _METADATA}
    known = {"group": definition["group"], "version": version, "kind": kind}
    return kind, rule | {"x-kubernetes-group-version-kind": [known]}


def _download(module: str) -> pathlib.Path:
    command = ["go", "mod", "download", "-json", module]
    return pathlib.Path(json.loads(subprocess.run(command, check=True, capture_output=True, cwd="/").stdout)["Dir"])


def main() -> None:
    """Writes a file for each version that is named on the command line."""
    custom = dict(custom_kind(*each) for each in CUSTOM)
    for version in sys.argv[1:]:
        file = _download(f"k8s.io/kubernetes@{version}") / "api/openapi-spec/swagger.json"
        minor = ".".join(version.split(".")[:2])
        text = json.dumps(schema(json.loads(file.read_text()), custom), separators=(",", ":"))
        (SCHEMAS / f"{minor}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
