"""The image: what runs in it by which arguments, as which user, on a root file system that nobody can write to."""

import json
import os

import pytest

from tests.e2e.release import Json, Release, until

pytestmark = pytest.mark.e2e

ARGUMENTS = {
    "agent": ["--help"],
    "trainer": ["python", "-m", "trainer", "--help"],
    "tensorboard": ["tensorboard", "--version"],
    "user": ["sh", "-c", "id -u; touch /x 2>&1; command -v gcc cc; ls /root/.cache 2>&1 | wc -l"],
}


def test_arguments(release: Release) -> None:
    for name, arguments in ARGUMENTS.items():
        release.kubectl("apply", "--filename", "-", text=json.dumps(_pod(name, arguments)))

    def phases() -> list[str] | None:
        found = [release.get("pod", name)["status"]["phase"] for name in ARGUMENTS]
        return found if {"Succeeded", "Failed"}.issuperset(found) else None

    until(120, "the end of all pods", phases)
    logs = {name: release.kubectl("logs", name) for name in ARGUMENTS}
    assert "usage: python -m trainer.agent" in logs["agent"]
    assert "usage: python -m trainer [flags]" in logs["trainer"]
    assert "2.16.2" in logs["tensorboard"]
    user, touched, *rest = logs["user"].splitlines()
    assert user == "10001"
    assert "Read-only file system" in touched
    assert not [line for line in rest if line.startswith("/")], "there is a compiler"


def _pod(name: str, arguments: list[str]) -> Json:
    container = {
        "name": "image",
        "image": os.environ["IMAGE"],
        "args": arguments,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
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
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
