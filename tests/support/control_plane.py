"""A real control plane without nodes: etcd, API server, controllers and scheduler, for tests of the launcher.

A test makes up the nodes, as objects, and writes what a kubelet would write into the status of pods: a launcher sees
no more of a kubelet than that. So there can be hundreds of workers, or GPUs. It needs Go, which builds it, and no root.
"""

import contextlib
import dataclasses
import json
import pathlib
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tests.support.waiting import until
from tests.tools import tool
from trainer.core.free_ports import free_ports

_TOKEN = "control-plane"


@dataclasses.dataclass
class ControlPlane:
    """The processes and how to reach them."""

    folder: pathlib.Path
    port: int
    processes: dict[str, subprocess.Popen[bytes]] = dataclasses.field(default_factory=dict)
    _commands: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def kubeconfig(self) -> pathlib.Path:
        return self.folder / "admin.conf"

    def start(self, name: str, *command: str) -> None:
        self._commands[name] = command
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def stop(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def start_again(self, name: str) -> None:
        self.start(name, *self._commands[name])

    def ready(self) -> bool:
        try:
            return bool(self.request("GET", "/readyz") == b"ok")
        except (urllib.error.URLError, ConnectionError, OSError):
            return False

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> bytes:
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {_TOKEN}", "Content-Type": kind},
        )
        context = ssl.create_default_context(cafile=str(self.folder / "pki" / "apiserver.crt"))
        with urllib.request.urlopen(request, context=context, timeout=20) as answer:  # noqa: S310
            return bytes(answer.read())

    def get(self, path: str) -> Any:
        return json.loads(self.request("GET", path))

    def create(self, path: str, body: Mapping[str, Any]) -> Any:
        return json.loads(self.request("POST", path, body))

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        return json.loads(self.request("PATCH", path, body, "application/strategic-merge-patch+json"))

    def kubeconfig_of(self, token: str) -> pathlib.Path:
        """A kubeconfig of another user: `counted`, whose requests are counted, or `nobody`, who has no rights."""
        path = self.folder / f"{token}.conf"
        path.write_text(self.kubeconfig.read_text().replace(f"token: {_TOKEN}", f"token: {token}"))
        return path

    def requests(self) -> set[str]:
        """The requests of the user `counted` so far, each as "id verb URI"."""
        lines = map(json.loads, (self.folder / "audit.log").read_text().splitlines())
        return {f"{line['auditID']} {line['verb']} {line['requestURI']}" for line in lines}

    def node(self, name: str, *, cpus: int = 4, gpus: int = 0, memory: str = "16Gi") -> None:
        """Makes up a node that is ready and takes pods."""
        resources = {"cpu": str(cpus), "memory": memory, "ephemeral-storage": "100Gi", "pods": "110"}
        if gpus:
            resources["nvidia.com/gpu"] = str(gpus)
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64"}
        self.create("/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
        status = {"allocatable": resources, "capacity": resources, "conditions": [ready]}
        self.patch(f"/api/v1/nodes/{name}/status", {"status": status})
        self.patch(f"/api/v1/nodes/{name}", {"spec": {"taints": None}})  # New nodes are tainted as not ready.


@contextlib.contextmanager
def control_plane(folder: pathlib.Path) -> Iterator[ControlPlane]:
    """A control plane from when it answers to the end of the block; its files and logs lie in `folder`."""
    port, client, peer = free_ports(3)
    plane = ControlPlane(folder, port)
    pki = folder / "pki"
    pki.mkdir()
    users = (_TOKEN, "admin", "system:masters"), ("counted", "counted", "system:masters"), ("nobody", "nobody", "")
    (pki / "tokens.csv").write_text("".join(f"{token},{name},{name},{group}\n" for token, name, group in users))
    counted = {"level": "Metadata", "users": ["counted"], "omitStages": ["RequestReceived"]}
    policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [counted, {"level": "None"}]}
    (folder / "audit.yaml").write_text(yaml.safe_dump(policy))
    subprocess.run(["openssl", "genrsa", "-out", pki / "sa.key", "2048"], check=True, capture_output=True)
    quick = ("--kube-api-qps=500", "--kube-api-burst=500")
    etcd = f"http://127.0.0.1:{client}"
    try:
        plane.start(
            *("etcd", str(tool("etcd")), "--data-dir", str(folder / "etcd"), "--unsafe-no-fsync"),
            *("--listen-client-urls", etcd, "--advertise-client-urls", etcd),
            *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
        )
        plane.start(
            *("apiserver", str(tool("kube-apiserver")), f"--etcd-servers={etcd}", "--bind-address=127.0.0.1"),
            *(f"--secure-port={port}", "--service-cluster-ip-range=10.96.0.0/16", f"--cert-dir={pki}"),
            *("--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=RBAC"),
            *(f"--service-account-key-file={pki}/sa.key", f"--service-account-signing-key-file={pki}/sa.key"),
            *(f"--token-auth-file={pki}/tokens.csv", f"--audit-policy-file={folder}/audit.yaml"),
            f"--audit-log-path={folder}/audit.log",
        )
        until(60, "the certificate", (pki / "apiserver.crt").exists)
        until(60, "the API server", plane.ready)
        _kubeconfig(plane)
        off = "*,-node-lifecycle-controller,-taint-eviction-controller,-pod-garbage-collector-controller"
        plane.start(
            *("controller-manager", str(tool("kube-controller-manager")), f"--kubeconfig={plane.kubeconfig}"),
            *("--leader-elect=false", f"--controllers={off}", "--secure-port=0", *quick),
            f"--service-account-private-key-file={pki}/sa.key",
        )
        plane.start(
            *("scheduler", str(tool("kube-scheduler")), f"--kubeconfig={plane.kubeconfig}"),
            *("--leader-elect=false", "--secure-port=0", *quick),
        )
        until(60, "service accounts", lambda: _exists(plane, "/api/v1/namespaces/default/serviceaccounts/default"))
        yield plane
    finally:
        for process in plane.processes.values():
            process.kill()
        for process in plane.processes.values():
            process.wait()


def _exists(plane: ControlPlane, path: str) -> bool:
    try:
        plane.get(path)
    except (urllib.error.HTTPError, ConnectionError):
        return False
    return True


def _kubeconfig(plane: ControlPlane) -> None:
    server = {"server": f"https://127.0.0.1:{plane.port}", "certificate-authority": f"{plane.folder}/pki/apiserver.crt"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": server}],
        "users": [{"name": "admin", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "admin"}}],
        "current-context": "local",
    }
    plane.kubeconfig.write_text(yaml.safe_dump(config))


if __name__ == "__main__":  # To look at it by hand: it runs until standard input is closed.
    with control_plane(pathlib.Path(sys.argv[1])) as running:
        print(f"export KUBECONFIG={running.kubeconfig}", flush=True)
        sys.stdin.read()
