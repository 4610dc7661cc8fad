"""Kueue on a cluster that runs on this machine: the objects of its own module, its manager as a process beside it."""

import contextlib
import json
import pathlib
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import yaml

from tests.e2e.release import run
from tests.support.waiting import until
from tests.tools import source, tool
from trainer.core.free_ports import free_ports

_NAMESPACE = "kueue-system"
_CONVERTED = "CustomResourceDefinition"
_WEBHOOKS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
_GROUPS = {"kueue.x-k8s.io", "batch"}  # The other groups' webhooks would stand before every pod of the cluster.


@contextlib.contextmanager
def kueue(folder: pathlib.Path) -> Iterator[None]:
    """Installs it on $KUBECONFIG's cluster, whose API server is this machine's, and removes it at the block's end."""
    webhook, health = free_ports(2)
    certificate, key = _certificate(folder)
    pair = {"tls.crt": certificate.read_text(), "tls.key": key.read_text()}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "kueue-webhook-server-cert", "namespace": _NAMESPACE},
        "stringData": {**pair, "ca.crt": pair["tls.crt"], "ca.key": pair["tls.key"]},
    }
    configuration = folder / "kueue.json"
    configuration.write_text(json.dumps(_configuration(folder, webhook, health)))
    objects = [*_objects(f"https://127.0.0.1:{webhook}"), secret]
    # The webhooks come last and go first: nothing answers for them before and after the manager.
    installed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    run("kubectl", "apply", "--server-side", "--filename", "-", text=installed)
    try:
        with (folder / "kueue.log").open("wb") as log:
            manager = subprocess.Popen([tool("kueue"), f"--config={configuration}"], stdout=log, stderr=log)
        try:
            until(60, f"Kueue, see {folder}/kueue.log", lambda: manager.poll() is not None or _ready(health))
            assert manager.poll() is None, (folder / "kueue.log").read_text()[-3000:]
            yield
        finally:
            for kinds in (_WEBHOOKS, (_CONVERTED,)):  # The manager lets go of what it holds.
                names = [f"{value['kind']}/{value['metadata']['name']}" for value in objects if value["kind"] in kinds]
                run("kubectl", "delete", *names, "--timeout=60s")
            manager.kill()
            manager.wait()
    finally:
        run("kubectl", "delete", "--ignore-not-found", "--filename", "-", "--wait=false", text=installed)


def _objects(address: str) -> list[dict[str, Any]]:
    """What its installation has, but for the manager's pod: the API server is to reach it at `address`."""
    manifests = run("kubectl", "kustomize", str(source("kueue") / "config/default")).stdout
    kinds = ("Namespace", _CONVERTED, *_WEBHOOKS)
    objects = [value for value in yaml.safe_load_all(manifests) if value["kind"] in kinds]
    for value in objects:
        if value["kind"] in _WEBHOOKS:
            value["webhooks"] = [
                webhook
                for webhook in value["webhooks"]
                if {g for r in webhook["rules"] for g in r["apiGroups"]} <= _GROUPS
            ]
        clients = [webhook["clientConfig"] for webhook in value.get("webhooks", ())]
        if conversion := value.get("spec", {}).get("conversion"):
            clients.append(conversion["webhook"]["clientConfig"])
        for client in clients:
            client["url"] = address + client.pop("service")["path"]
    return sorted(objects, key=lambda value: kinds.index(value["kind"]))


def _configuration(folder: pathlib.Path, webhook: int, health: int) -> dict[str, Any]:
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "namespace": _NAMESPACE,
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": "127.0.0.1", "port": webhook, "certDir": str(folder)},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": True},
        "integrations": {"frameworks": ["batch/job"]},
        "featureGates": {"VisibilityOnDemand": False},
    }


def _certificate(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """One that Kueue takes for its own authority's and for its own: it makes such ones for a Service only."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    names = f"DNS:kueue-ca,DNS:kueue-webhook-service.{_NAMESPACE}.svc,IP:127.0.0.1"
    run("openssl", "genrsa", "-traditional", "-out", str(key), "2048")  # Kueue reads no other form of a key.
    run(
        *("openssl", "req", "-x509", "-key", str(key), "-subj", "/CN=kueue", "-days", "365"),
        *("-addext", f"subjectAltName={names}", "-out", str(certificate)),
    )
    return certificate, key


def _ready(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
        return bool(answer.status == 200)
    return False
