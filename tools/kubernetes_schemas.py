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

from tests.support.paths import SCHEMAS

KINDS = {
    "Deployment": "io.k8s.api.apps.v1.Deployment",
    "Job": "io.k8s.api.batch.v1.Job",
    "NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "Pod": "io.k8s.api.core.v1.Pod",
    "Service": "io.k8s.api.core.v1.Service",
    "ServiceAccount": "io.k8s.api.core.v1.ServiceAccount",
}
# The description calls these strings; the API takes them as numbers, too.
ALSO_NUMBERS = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}
_KEPT = {"type", "properties", "required", "items", "additionalProperties", "$ref", "enum", "minimum", "maximum"}
_PREFIX = "#/definitions/"

Json = dict[str, Any]


def schema(openapi: Json) -> Json:
    """One schema for all kinds, with only the definitions that they need."""
    definitions: Json = {}
    to_do = list(KINDS.values())
    while to_do:
        if (name := to_do.pop()) not in definitions:
            definitions[name] = ALSO_NUMBERS.get(name) or _strict(openapi["definitions"][name])
            to_do += _references(definitions[name])
    cases = [
        {"if": {"properties": {"kind": {"const": kind}}}, "then": {"$ref": _PREFIX + name}}
        for kind, name in KINDS.items()
    ]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "required": ["apiVersion", "kind"],
        "properties": {"kind": {"enum": sorted(KINDS)}},
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


def main() -> None:
    """Writes a file for each version that is named on the command line."""
    for version in sys.argv[1:]:
        command = ["go", "mod", "download", "-json", f"k8s.io/kubernetes@{version}"]
        module = json.loads(subprocess.run(command, check=True, capture_output=True, cwd="/").stdout)["Dir"]
        openapi = json.loads((pathlib.Path(module) / "api/openapi-spec/swagger.json").read_text())
        minor = ".".join(version.split(".")[:2])
        (SCHEMAS / f"{minor}.json").write_text(json.dumps(schema(openapi), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
