"""The image: what runs in it by which arguments, as which user, on a root file system that nobody can write to."""

import datetime
import json
import os
import pathlib
import re

import pytest

from tests.e2e.release import Json, Release, run
from tests.support.paths import CHART
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

ARGUMENTS = {
    "flags": ["--help"],
    "trainer": ["python", "-m", "trainer", "--help"],
    "user": ["sh", "-c", "id -u; touch /x 2>&1; command -v gcc cc g++ c++ clang; echo libraries:$LD_LIBRARY_PATH"],
    # What pip and apt leave, where uid 10001 may look; /tmp is pip's home, and here the image's own.
    "caches": ["sh", "-c", "find / -xdev -name .cache -o -name '*.deb'; find /tmp /var/lib/apt/lists -mindepth 1"],
}
SERVERS: dict[str, list[str]] = {
    "agent": [],
    "tensorboard": ["tensorboard", "--logdir=/tmp", "--host=0.0.0.0"],
}


def test_arguments(release: Release) -> None:
    for name, arguments in (ARGUMENTS | SERVERS).items():
        release.kubectl("apply", "--filename", "-", text=json.dumps(_pod(name, arguments)))

    def phases() -> list[str] | None:
        found = [release.get("pod", name)["status"]["phase"] for name in ARGUMENTS]
        return found if {"Succeeded", "Failed"}.issuperset(found) else None

    until(120, "the end of all pods", phases)
    logs = {name: release.kubectl("logs", name) for name in ARGUMENTS}
    assert "usage: python -m trainer.agent" in logs["flags"]
    assert "usage: python -m trainer [flags]" in logs["trainer"]
    user, touched, *rest, libraries = logs["user"].splitlines()
    assert user == "10001"
    assert "Read-only file system" in touched
    assert not [line for line in rest if line.startswith("/")], "there is a compiler"
    assert libraries == "libraries:/usr/local/nvidia/lib64"  # Where GKE mounts the driver.
    left = [line for line in logs["caches"].splitlines() if "Permission denied" not in line]
    assert not left, left

    begins = "agent 0: attempt 1 begins with 1 of 1 worker"
    until(120, "a worker without arguments", lambda: begins in release.kubectl("logs", "agent", check=False))
    page = f"/api/v1/namespaces/{release.namespace}/pods/tensorboard:6006/proxy/data/environment"
    until(120, "TensorBoard", lambda: '"data_location": "/tmp"' in release.kubectl("get", "--raw", page, check=False))


@pytest.mark.usefixtures("own_cluster")  # Its image is in the layout that tests/e2e/image wrote.
def test_labels() -> None:
    layout = pathlib.Path(os.environ["CLUSTER_CACHE"]) / "oci"

    def blob(value: Json) -> Json:
        content: Json = json.loads((layout / "blobs" / value["digest"].replace(":", "/")).read_text())
        return content

    name = {"org.opencontainers.image.ref.name": f"docker.io/library/{os.environ['IMAGE']}"}
    # Images that were written before it are there, too, without a name.
    manifest = blob(next(value for value in _index(layout) if value.get("annotations") == name))
    labels = blob(manifest["config"])["config"]["Labels"]
    version = re.search(r'^appVersion: "(.+)"$', (CHART / "Chart.yaml").read_text(), re.MULTILINE)
    assert version
    revision = run("git", "-C", str(CHART), "rev-parse", "HEAD", check=False).stdout.strip() or "unknown"
    expected = {"title": "trainer", "licenses": "Apache-2.0", "version": version[1], "revision": revision}
    expected |= {"source": "https://trainer.example/trainer", "base.name": "localhost/trainer-base:bookworm-2"}
    assert {name: labels[f"org.opencontainers.image.{name}"] for name in expected} == expected
    assert labels["org.opencontainers.image.description"]
    assert datetime.datetime.fromisoformat(labels["org.opencontainers.image.created"]).year > 2025


def _index(layout: pathlib.Path) -> list[Json]:
    manifests: list[Json] = json.loads((layout / "index.json").read_text())["manifests"]
    return manifests


def _pod(name: str, arguments: list[str]) -> Json:
    written = name != "caches"
    container = {
        "name": "image",
        "image": os.environ["IMAGE"],
        "args": arguments,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}] if written else [],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {
        "restartPolicy": "Never",
        "securityContext": security,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}] if written else [],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
