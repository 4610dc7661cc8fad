"""A real object store in a pod: what a release has to be told to use it, and what lies in it."""

import base64
import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

from tests.e2e.release import run
from tests.support.servers import BUCKET, KEY_ID, SECRET
from tests.tools import tool

PORT = 7070


class StorePod:
    """A real store in a pod of its own namespace, and what a release has to be told to use it."""

    def __init__(self, scheme: str, namespace: str) -> None:
        self.scheme, self.namespace = scheme, namespace
        self.address = f"http://store.{namespace}.svc.cluster.local:{PORT}"

    @property
    def command(self) -> str:
        if self.scheme == "s3":
            return f"mkdir -p /data/{BUCKET} && exec /tools/{tool('versitygw').name} --port :{PORT} --quiet posix /data"
        emulator = f"/tools/{tool('fake-gcs-server').name} -backend filesystem -filesystem-root /data -scheme http"
        return f"mkdir -p /data/{BUCKET} && exec {emulator} -host 0.0.0.0 -port {PORT} -external-url {self.address}"

    def objects(self) -> list[str]:
        """The keys in the bucket; both servers keep an object as the file of its name."""
        return [
            path.split(f"/data/{BUCKET}/", 1)[1] for path in self._do("find", f"/data/{BUCKET}", "-type", "f").split()
        ]

    def read(self, key: str) -> str:
        """An object's text."""
        return self._do("cat", f"/data/{BUCKET}/{key}")

    def read_bytes(self, key: str) -> bytes:
        """An object that is no text."""
        return base64.b64decode(self._do("base64", f"/data/{BUCKET}/{key}"))

    def run_with_a_checkpoint(self) -> str | None:
        """The name of the run below `e2e/`, once one of its checkpoints can be restored."""
        for key in self.objects():
            if key.endswith("/mirror.json") and json.loads(self.read(key))["checkpoints"]:
                return key.split("/")[1]
        return None

    def _do(self, *command: str) -> str:
        return run("kubectl", "--namespace", self.namespace, "exec", "store", "--", *command).stdout

    @property
    def environ(self) -> dict[str, str]:
        if self.scheme == "gs":
            return {"STORAGE_EMULATOR_HOST": self.address}
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }


@contextlib.contextmanager
def store_pod(scheme: str) -> Iterator[StorePod]:
    """versitygw, or fake-gcs-server, of which the binaries lie on the nodes, which are this machine."""
    pod = StorePod(scheme, f"e2e-store-{uuid.uuid4().hex[:6]}")
    run("kubectl", "create", "namespace", pod.namespace)
    secrets = {"ROOT_ACCESS_KEY_ID": KEY_ID, "ROOT_SECRET_ACCESS_KEY": SECRET}
    values: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "store", "labels": {"app": "store"}},
            "spec": {
                "containers": [
                    {
                        "name": "store",
                        "image": os.environ["IMAGE"],
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sh", "-c", pod.command],
                        "env": [{"name": name, "value": value} for name, value in secrets.items()],
                        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                        "securityContext": {"runAsUser": 0},
                        "volumeMounts": [
                            {"name": "tools", "mountPath": "/tools", "readOnly": True},
                            {"name": "data", "mountPath": "/data"},
                        ],
                    }
                ],
                "volumes": [
                    {"name": "tools", "hostPath": {"path": str(tool("versitygw").parent)}},
                    {"name": "data", "emptyDir": {}},
                ],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "store"},
            "spec": {"selector": {"app": "store"}, "ports": [{"port": PORT}]},
        },
    ]
    try:
        for value in values:
            run("kubectl", "-n", pod.namespace, "apply", "--filename", "-", text=json.dumps(value))
        run("kubectl", "-n", pod.namespace, "wait", "--for=condition=Ready", "pod/store", "--timeout=90s")
        yield pod
    finally:
        run("kubectl", "-n", pod.namespace, "delete", "pod", "store", "--force", "--grace-period=0", check=False)
        run("kubectl", "delete", "namespace", pod.namespace, "--wait=false")
