"""What submit and doctor find on a cluster, as a scripted API server tells of it; the chart's objects are the golden
ones, printed by a stand-in for helm.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.api_objects import job as job_json
from tests.support.api_objects import node
from tests.support.api_server import Handler, Query, api_server
from tests.support.paths import CHART, GOLDEN
from trainer.launch import cli
from trainer.launch.checks import quota
from trainer.launch.checks.nodes import Nodes, check_nodes
from trainer.launch.codes import LaunchCode
from trainer.launch.helm.release import HelmRelease
from trainer.launch.helm.rendered import job_in, parse

MINE = {"app.kubernetes.io/name": "mnist-train", "app.kubernetes.io/instance": "mnist-train"}
Told = Callable[..., tuple[int, str, str]]


def worker(*, mine: bool = True, namespace: str = "team", gpus: int = 1) -> dict[str, Any]:
    resources = {"requests": {"cpu": "1", "memory": "3Gi"}, "limits": {"nvidia.com/gpu": gpus}}
    labels = {**MINE, "batch.kubernetes.io/job-name": "mnist-train-1"} if mine else {}
    return {
        "metadata": {"name": "w", "namespace": namespace, "labels": labels},
        "spec": {"nodeName": "n", "containers": [{"resources": resources}]},
        "status": {"phase": "Running"},
    }


def hard(used: dict[str, str], **more: Any) -> dict[str, Any]:
    limits = {"requests.nvidia.com/gpu": "4", "pods": "4", "requests.cpu": "4", "services": "2"}
    return {"metadata": {"name": "small"}, "spec": more, "status": {"hard": limits, "used": used}}


FULL = hard({"requests.nvidia.com/gpu": "4", "pods": "4", "requests.cpu": "4", "services": "2"})


@dataclasses.dataclass
class Cluster:
    """What the API server tells."""

    running: bool = False  # A run of the release's name, which has all GPUs and all of the quota.
    version: Any = dataclasses.field(default_factory=lambda: {"major": "1", "minor": "", "gitVersion": "v1.36.1"})
    quotas: tuple[dict[str, Any], ...] = ()
    pod: dict[str, Any] = dataclasses.field(default_factory=worker)  # Each of those that run.
    taints: tuple[dict[str, Any], ...] = ()  # Of the one node.
    claims: tuple[str, ...] = ()  # Those that are there.
    forbidden: str = ""  # A resource that this user has no rights to.

    def answer(self, server: Handler, query: Query) -> None:
        path = server.path.split("?")[0]
        mine = [self.pod for _ in range(4)] if self.running else []
        if self.running and "pods" in path:
            assert server.command == "POST" or "status.phase!=Succeeded" in query["fieldSelector"]
        if path == "/version":
            server.reply(self.version)
        elif server.command == "POST" and path.endswith("/pods") and self.quotas == (FULL,):
            server.refuse(403, 'pods "x" is forbidden: exceeded quota: small, used: pods=4, limited: pods=4')
        elif server.command == "POST":
            server.reply({"status": {"allowed": not (self.forbidden and self.forbidden in server.posted)}}, 201)
        elif path == "/api/v1/nodes":
            server.reply({"items": [node("n", cpu="64", memory="640Gi", gpus=4, taints=list(self.taints))]})
        elif "/persistentvolumeclaims/" in path:
            claim = {"status": {"phase": "Bound"}, "spec": {}}
            server.reply(claim) if path.rsplit("/", 1)[1] in self.claims else server.refuse(404, "not found")
        elif path.endswith("/namespaces/team"):
            server.reply({"metadata": {}})
        elif path.endswith("/jobs"):
            job = job_json(4)
            job["metadata"]["name"] = "mnist-train-1"
            server.reply({"items": [job] if self.running else []})
        elif path.endswith("/services"):
            server.reply({"items": [{}, {}] if self.running else []})
        else:
            server.reply({"items": {"pods": mine, "resourcequotas": list(self.quotas)}.get(path.rsplit("/", 1)[1], [])})


@pytest.fixture
def told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs the launcher: its exit code, standard output and standard error."""
    helm = tmp_path / "helm"
    helm.write_text(
        f"#!/bin/sh\necho $1 >>{tmp_path}/asked\n[ $1 = version ] && echo v4.0.0 || cat {tmp_path}/chart.yaml\n"
    )
    helm.chmod(0o755)
    (tmp_path / "chart.yaml").write_text(GOLDEN.read_text())

    def run(cluster: Cluster, *arguments: str) -> tuple[int, str, str]:
        with api_server(cluster.answer, tmp_path) as config:
            monkeypatch.setenv("KUBECONFIG", str(config))
            code = cli.main([*arguments, f"--chart={CHART}", f"--helm={helm}"])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_run_that_goes_on_is_named_before_what_it_uses(told: Told) -> None:
    """Whatever --force says: it would be ended."""
    for force in ((), ("--force",)):
        code, out, error = told(Cluster(running=True, quotas=(FULL,)), *force)
        assert code == LaunchCode.NOT_STARTED
        assert "FAIL  release: mnist-train is still running as the job mnist-train-1\n" in out
        assert "fix: follow it with `python -m trainer.launch attach --name=mnist-train`, or end it and start" in out
        assert "quota" not in out
        assert error == "error: nothing was submitted: mnist-train is still running\n"


def test_a_run_that_is_replaced_gives_back_what_it_uses(told: Told) -> None:
    code, out, error = told(Cluster(running=True, quotas=(FULL,)), "doctor", "--replace")
    assert (code, error) == (LaunchCode.DONE, ""), out
    assert "ok    GPUs: 1 for each worker, found out from the nodes" in out
    assert "ok    GPUs: 4 of 4 are free, 4 are asked for" in out
    assert "ok    quota: leaves enough" in out
    assert "note  pods: no more of them are admitted beside those that are replaced: exceeded quota: small" in out


def test_a_quota_that_others_fill(told: Told) -> None:
    code, out, _ = told(Cluster(quotas=(FULL,)), "doctor")
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  quota: small leaves 0 of 4 requests.nvidia.com/gpu, 4 is asked for; " in out
    assert "small leaves 0 of 2 services, 2 is asked for" in out
    assert "FAIL  pods: the namespace does not admit them: exceeded quota: small" in out
    # What a quota with a scope counts is not known.
    scopes: list[dict[str, Any]] = [{"scopes": ["BestEffort"]}, {"scopeSelector": {"matchExpressions": []}}]
    for scope in scopes:
        code, out, _ = told(Cluster(quotas=({**FULL, "spec": scope},)), "doctor")
        assert (code, "quota" in out) == (LaunchCode.DONE, False)


def test_limits_and_tensorboard_count_in_a_quota() -> None:
    def made(kind: str, count: dict[str, int]) -> dict[str, Any]:
        resources = {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}
        return {"kind": kind, "spec": {**count, "template": {"spec": {"containers": [{"resources": resources}]}}}}

    wants = quota.needed([made("Job", {"completions": 3}), made("Deployment", {"replicas": 1}), {"kind": "Service"}])
    assert (wants["pods"], wants["requests.cpu"], wants["cpu"]) == (4.0, 4.0, 4.0)
    assert (wants["limits.cpu"], wants["limits.memory"], wants["services"]) == (8.0, 4 * 2.0**30, 1.0)
    small = {"metadata": {"name": "q"}, "status": {"hard": {"limits.cpu": "7"}, "used": {}}}
    assert quota.exceeds([small], wants, {}) == ["q leaves 7 of 7 limits.cpu, 8 is asked for"]
    assert quota.exceeds([small], wants, {"limits.cpu": 1.0}) == []


def test_workers_of_others_count(told: Told) -> None:
    for other in (worker(mine=False), worker(namespace="other")):
        _, out, _ = told(Cluster(running=True, pod=other), "doctor", "--replace")
        assert "ok    GPUs: 0 of 4 are free, 4 are asked for" in out


def test_nodes_that_may_run_no_worker_are_told_with_the_reason(told: Told) -> None:
    code, out, _ = told(Cluster(taints=({"key": "team", "value": "other", "effect": "NoSchedule"},)), "doctor")
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  nodes: none of the 1 node(s) may run a worker: 1 with the taint team=other:NoSchedule\n" in out
    assert "fix: worker.tolerations, worker.nodeSelector, worker.affinity and image.arch" in out
    assert "fewer --workers" not in out


def test_nodes_with_gpus_that_are_kept_from_workers_are_told_with_the_reason() -> None:
    """Beside a node that would take them, and has no GPU."""
    kept = node("a", cpu="64", memory="640Gi", gpus=8, taints=[{"key": "team", "effect": "NoSchedule"}])
    nodes = Nodes([kept, node("b", cpu="64", memory="640Gi")], [])
    failed = [result for result in check_nodes(nodes, job_in(parse(GOLDEN.read_text()))) if result.failed]
    assert len(failed) == 1
    assert (
        "1 nvidia.com/gpu (the largest node has 0); other nodes may not run one: 1 with the taint team:"
        in failed[0].text
    )
    assert failed[0].fix.startswith("worker.tolerations, worker.nodeSelector, worker.affinity")


def test_claims_that_workers_mount(told: Told, tmp_path: pathlib.Path) -> None:
    golden = GOLDEN.read_text()
    volume = "- name: data\n        persistentVolumeClaim: {claimName: imagenet}\n      - name: shm\n        emptyDir:"
    changed = golden.replace("- name: shm\n        emptyDir:", volume)
    assert changed != golden
    (tmp_path / "chart.yaml").write_text(changed)
    code, out, _ = told(Cluster(), "doctor")
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  volumes: there is no claim imagenet in team, which worker.extraVolumes names as data" in out
    code, out, _ = told(Cluster(claims=("imagenet",)), "doctor")
    assert (code, "ok    volumes: claim imagenet (Bound)" in out) == (LaunchCode.DONE, True)


def test_forwarding_needs_a_right(told: Told) -> None:
    cluster = Cluster(forbidden="portforward")
    note = "note  TensorBoard: is not forwarded: this user may not get pods/portforward"
    assert note in told(cluster, "doctor", "--tensorboard")[1]
    assert note not in told(cluster, "doctor")[1]
    assert note not in told(Cluster(), "doctor", "--tensorboard")[1]


def test_the_oldest_kubernetes_is_the_charts() -> None:
    release = HelmRelease(helm="", name="", namespace="", context="", chart=str(CHART))
    assert release.oldest_kubernetes() == (1, 33)


@pytest.mark.parametrize(
    ("version", "what", "words"),
    [
        ({"gitVersion": "v1.32.9-gke.1"}, "cluster", "Kubernetes v1.32.9-gke.1"),
        ({"minor": "36"}, "cluster", "does not say which Kubernetes it is"),
    ],
)
def test_doctor_in_json(told: Told, version: Any, what: str, words: str) -> None:
    code, out, error = told(Cluster(version=version), "doctor", "--json")
    assert (code, error) == (LaunchCode.NOT_STARTED, "")
    helm, *others = map(json.loads, out.splitlines())
    assert helm == {"mark": "ok", "what": "helm", "text": "v4.0.0", "fix": ""}
    (failed,) = [line for line in others if line["mark"] == "FAIL"]
    assert failed["what"] == what
    assert words in failed["text"]


def test_doctor_says_that_there_is_no_helm_or_no_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], told: Told
) -> None:
    code, out, error = told(Cluster(), "doctor", "--json")
    assert (code, error) == (LaunchCode.DONE, ""), out
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert cli.main(["doctor", f"--chart={CHART}", "--helm=/no/helm", "--json"]) == LaunchCode.NOT_STARTED
    said = capsys.readouterr()
    (failed,) = map(json.loads, said.out.splitlines())
    assert (failed["mark"], failed["what"], said.err) == ("FAIL", "helm", "")
    assert "'/no/helm' was not found on PATH" in failed["text"]


def test_list_in_json(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with api_server(Cluster(running=True).answer, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", str(config))
        assert cli.main(["list", "--json"]) == LaunchCode.DONE
    (run,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (run["name"], run["workers"], run["ended"], run["created"]) == ("mnist-train-1", 4, "", 1767225600.0)
