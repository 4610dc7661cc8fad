"""Five hundred workers on a real control plane, whose nodes and kubelets are KWOK's."""

import pathlib
import subprocess
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.e2e.launching import Launching, launched
from tests.support.control_plane import ControlPlane, control_plane
from tests.support.paths import CHART
from tests.support.waiting import until
from tests.tools import tool
from trainer.core.free_ports import free_ports
from trainer.core.log_lines import Progress

pytestmark = [pytest.mark.e2e, pytest.mark.alone]  # It takes times.

WORKERS, NODES = 500, 20
FIRST_SCREEN = 2.0  # Seconds.
MEGABYTES = 150
WATCHED = 20.0  # Seconds.

LINE = Progress(
    worker=0, workers=WORKERS, attempt=1, epoch=1, epochs=5, step=7, steps=100,
        metrics={"loss": 1.0, "accuracy": 0.5}, examples_per_second=1.0,
).format()  # fmt: skip


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, own_cluster: pathlib.Path) -> Iterator[ControlPlane]:
    assert own_cluster.is_dir()  # The binaries that it was started from are there.
    folder = tmp_path_factory.mktemp("plane")
    with control_plane(folder) as running:
        (port,) = free_ports(1)
        log = folder / "worker.log"
        log.write_text(f"2026-01-01T00:00:20.000000001Z stdout F {LINE}\n")
        (folder / "kwok.yaml").write_text(yaml.safe_dump_all(kwok(log)))
        running.start(
            *("kwok", str(tool("kwok")), f"--kubeconfig={running.kubeconfig}", f"--config={folder}/kwok.yaml"),
            *("--manage-all-nodes", "--cidr=10.0.0.0/16", "--node-ip=127.0.0.1", f"--node-port={port}"),
            *(f"--server-address=127.0.0.1:{port}", f"--tls-cert-file={folder}/pki/apiserver.crt"),
            f"--tls-private-key-file={folder}/pki/apiserver.key",
        )
        kubelet = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        for index in range(NODES):
            running.node(f"node{index}", cpus=100, memory="500Gi")
            running.patch(f"/api/v1/nodes/node{index}/status", {"status": kubelet})
        yield running


def kwok(log: pathlib.Path) -> list[dict[str, Any]]:
    """What KWOK does: pods that have a node run, and their log is `log`."""
    logs = {"logs": [{"containers": ["worker"], "logsFile": str(log), "follow": True}]}
    waiting = [
        {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"},
        {"key": ".status.phase", "operator": "In", "values": ["Pending"]},
    ]
    runs = """
        phase: Running
        containerStatuses:
        - name: worker
          image: none
          imageID: none
          ready: true
          restartCount: 0
          state: {running: {startedAt: {{ Now | Quote }}}}
    """
    pods = {"resourceRef": {"apiGroup": "v1", "kind": "Pod"}, "selector": {"matchExpressions": waiting}}
    new = [{"key": ".status.phase", "operator": "NotIn", "values": ["Running"]}]
    nodes = {"resourceRef": {"apiGroup": "v1", "kind": "Node"}, "selector": {"matchExpressions": new}}
    specs = (
        ("ClusterLogs", logs),
        ("Stage", {**pods, "next": {"statusTemplate": textwrap.dedent(runs)}}),
        ("Stage", {**nodes, "next": {"statusTemplate": "phase: Running"}}),  # KWOK minds no node without a stage.
    )
    version = "kwok.x-k8s.io/v1alpha1"
    return [
        {"apiVersion": version, "kind": kind, "metadata": {"name": f"rule{number}"}, "spec": spec}
        for number, (kind, spec) in enumerate(specs)
    ]


def peak_megabytes(process: subprocess.Popen[str]) -> float:
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return next(int(row.split()[1]) for row in status.splitlines() if row.startswith("VmHWM")) / 1024


def test_five_hundred_workers(plane: ControlPlane) -> None:
    image = ("--image=registry.test/mnist-train:1", "--gpus_per_worker=0")
    submit = (f"--chart={CHART}", *image, f"--workers={WORKERS}", "--detach")
    code, text = launched(*submit, kubeconfig=plane.kubeconfig, trainer=(f"--global_batch_size={WORKERS}",))
    assert code == 0, text

    pods = "/api/v1/namespaces/default/pods"
    waiting = f"{pods}?fieldSelector=status.phase%3DPending&limit=1"
    until(60, "all pods", lambda: not plane.get(waiting)["items"])
    seconds = []
    for _ in range(3):  # Other programs of this machine may be busy during one.
        attached = Launching("attach", "--logs=none", kubeconfig=plane.kubeconfig)
        seconds.append(attached.when(f"workers: {WORKERS} running") - attached.began)
        attached.interrupt()
        attached.ends()
    attached = Launching("attach", "--logs=none", kubeconfig=plane.kubeconfig_of("counted"))
    attached.says(f"workers: {WORKERS} running")
    until(30, "the chief's log", lambda: any("/log?" in request for request in plane.requests()))
    before = plane.requests()
    began = time.monotonic()
    lost = plane.get(f"{pods}?limit=1")["items"][0]["metadata"]["name"]
    plane.request("DELETE", f"{pods}/{lost}?gracePeriodSeconds=0")
    attached.says(f"workers: {WORKERS - 1} running, 1 leaving", 30)
    time.sleep(max(0.0, WATCHED - (time.monotonic() - began)))
    more = plane.requests() - before
    peak = peak_megabytes(attached.process)
    attached.interrupt()
    attached.ends()
    print(f"first screen after {seconds} s, {peak:.0f} MB, {len(before)} requests, then {len(more)} more")
    assert min(seconds) < FIRST_SCREEN
    assert peak < MEGABYTES
    assert len(before) <= 10, before
    assert not more
