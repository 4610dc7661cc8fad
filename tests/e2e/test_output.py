"""A run whose output is an object store: its chief's pod is lost with its disk, and goes on from the store."""

import base64
import contextlib
import json
import os
import urllib.parse
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.release import NAME, SHORT, VALUES, Release, run, until
from tests.servers import BUCKET, KEY_ID, SECRET, tool

pytestmark = pytest.mark.e2e

STEP = 250  # Of 1404, when the chief's pod is lost.
EPOCHS = 3
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
        """The keys in the bucket."""
        listed = run("kubectl", "-n", self.namespace, "exec", "store", "--", "find", f"/data/{BUCKET}", "-type", "f")
        # The emulator writes a key's slashes as %2F.
        return [urllib.parse.unquote(line.split(f"/data/{BUCKET}/", 1)[1]) for line in listed.stdout.split()]

    def read(self, key: str) -> bytes:
        """An object, read by a client in a pod, with the client that the mirror uses."""
        code = (
            "import base64, os, sys; from trainer.storage import open_store;"
            "print(base64.b64encode(b''.join(open_store(sys.argv[1]).stream(sys.argv[2]))).decode())"
        )
        environ = [f"{name}={value}" for name, value in self.environ.items()]
        command = ["env", *environ, "python", "-W", "ignore", "-c", code, f"{self.scheme}://{BUCKET}", key]
        return base64.b64decode(run("kubectl", "-n", self.namespace, "exec", "store", "--", *command).stdout)

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


@pytest.fixture(params=["s3", "gs"])
def store(request: pytest.FixtureRequest, own_cluster: Any) -> Iterator[StorePod]:
    """versitygw, or fake-gcs-server, of which the binaries lie on the nodes, which are this machine."""
    assert own_cluster.is_dir()
    pod = StorePod(request.param, f"e2e-store-{uuid.uuid4().hex[:6]}")
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


def scalars(release: Release, tag: str, run_: str) -> list[int]:
    """The steps that the chart's TensorBoard shows of a tag, asked through the API server."""
    path = f"/api/v1/namespaces/{release.namespace}/services/{NAME}-tensorboard:6006/proxy/data/plugin/scalars/scalars"
    done = run("kubectl", "get", "--raw", f"{path}?tag={tag}&run={urllib.parse.quote(run_, safe='')}", check=False)
    with contextlib.suppress(json.JSONDecodeError):
        return [step for _, step, _ in json.loads(done.stdout)]
    return []


def test_a_lost_chief_goes_on_from_the_store(release: Release, store: StorePod, short_weights: str) -> None:
    release.kubectl(
        "create", "secret", "generic", "store", *(f"--from-literal={k}={v}" for k, v in store.environ.items())
    )
    # TensorFlow's gs:// cannot be pointed at an emulator, so TensorBoard shows only what lies on the S3 server.
    board = store.scheme == "s3"
    credentials = "credentials.s3Secret=store" if board else "worker.envFrom[0].secretRef.name=store"
    more = f"output={store.scheme}://{BUCKET}/e2e,{credentials},tensorboard.enabled={str(board).lower()}"
    release.install(*VALUES, *SHORT, "--set", more)
    release.at_step(STEP)
    until(60, "a checkpoint in the store", lambda: [key for key in store.objects() if "/checkpoints/step-" in key])
    (name,) = {key.split("/")[1] for key in store.objects() if key.startswith("e2e/")}
    shown: list[int] = []
    if board:
        shown = until(120, "TensorBoard", lambda: scalars(release, "epoch_loss", f"{name}/train"))
    chief = release.pod(0)["metadata"]["name"]
    release.kubectl("delete", "pod", chief, "--force", "--grace-period=0", "--wait=false")
    assert release.ended(400)[0] == "Complete", release.story()

    result = json.loads(store.read(f"e2e/{name}/result.json"))
    assert result["weights_sha256"] == short_weights
    assert result == release.message()
    attempts = [json.loads(line) for line in store.read(f"e2e/{name}/attempts.jsonl").splitlines()]
    assert attempts[-1]["step_from"] > 0
    keys = store.objects()
    for worker in (0, 1):
        assert f"e2e/{name}/workers/{worker}/attempt-{attempts[-1]['attempt']}.log" in keys
    assert f"e2e/{name}/model.keras" in keys
    if board:
        assert shown == list(range(len(shown)))
        for kind in ("train", "validation"):
            everything = list(range(EPOCHS))
            until(120, f"every epoch of {kind}", lambda: scalars(release, "epoch_loss", f"{name}/{kind}") == everything)  # noqa: B023
