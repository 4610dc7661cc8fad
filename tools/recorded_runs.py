"""Writes tests/recorded/*.jsonl: what a cluster tells while a run goes on, for a kind of end that no record has yet.

    python -m tools.recorded_runs NAMESPACE FILE COMMAND...     (COMMAND starts the run and returns when it has ended)

A line is {"kind": "job" | "pod" | "event", "type": ..., "object": ...}, in the order in which the watches told them.
After them come the logs of the chief's pods that still exist, {"kind": "log", "uid": the pod's, "line": ...}, of which
only the lines are kept that programs parse. Fields that the launcher does not read are left out.

tests/support/replay.py tells them again.
"""

import json
import pathlib
import re
import subprocess
import sys
import threading
from typing import Any

_KINDS = {"job": "jobs", "pod": "pods", "event": "events"}
_PARSED = re.compile(r"^\S+ (agent worker=|progress )")
_METADATA = {
    "name",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "resourceVersion",
}
_STATUS = {"conditions", "containerStatuses", "phase", "reason", "message", "active", "failed", "succeeded"}


def record(namespace: str, path: pathlib.Path, command: list[str]) -> None:
    """Runs the command and writes what the namespace's objects did meanwhile."""
    lines: list[dict[str, Any]] = []
    pods: dict[str, str] = {}

    def read(kind: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        decoder, rest = json.JSONDecoder(), ""
        for text in process.stdout:
            rest += text
            try:
                value, end = decoder.raw_decode(rest.lstrip())
            except ValueError:
                continue
            rest = rest.lstrip()[end:]
            item = _trimmed(value["object"])
            if kind == "pod":
                pods[item["metadata"]["uid"]] = item["metadata"]["name"]
            lines.append({"kind": kind, "type": value["type"], "object": item})

    kubectl = ("kubectl", "--namespace", namespace)
    watches = []
    for kind, plural in _KINDS.items():
        selector = ("--field-selector=type=Warning",) if kind == "event" else ()
        get = (*kubectl, "get", plural, *selector, "--watch", "--output-watch-events", "--output", "json")
        process = subprocess.Popen(get, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=read, args=(kind, process), daemon=True).start()
        watches.append(process)
    subprocess.run(command, check=False)
    for process in watches:
        process.terminate()
    for uid, name in list(pods.items()):
        if "-0-" in name:
            log = subprocess.run((*kubectl, "logs", "--timestamps", name), capture_output=True, text=True, check=False)
            parsed = [line for line in log.stdout.splitlines() if _PARSED.search(line)]
            lines += [{"kind": "log", "uid": uid, "line": line} for line in parsed]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _trimmed(item: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {
        key: item[key] for key in ("reason", "message", "type", "lastTimestamp", "eventTime") if key in item
    }
    if "involvedObject" in item:
        kept["involvedObject"] = {key: item["involvedObject"].get(key) for key in ("kind", "name", "uid")}
    kept["metadata"] = {key: value for key, value in item["metadata"].items() if key in _METADATA}
    spec = item.get("spec", {})
    kept["spec"] = {key: spec[key] for key in ("nodeName", "completions", "suspend") if key in spec}
    kept["status"] = {key: value for key, value in item.get("status", {}).items() if key in _STATUS}
    return kept


if __name__ == "__main__":
    record(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:])
