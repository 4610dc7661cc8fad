"""The launcher on a real control plane whose nodes are made up: what the API server says and does is real."""

import json
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.control_plane import ControlPlane, control_plane, until
from tests.e2e.launching import CHART, Launching, launched
from trainer.launch_codes import LaunchCode

pytestmark = pytest.mark.e2e

RESULT = {"workers": 2, "epochs": 5, "steps": 2340, "images_per_second": 1000.0, "restarts": 0, "val_accuracy": 0.98}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, own_cluster: pathlib.Path) -> Iterator[ControlPlane]:
    assert own_cluster.is_dir()  # The binaries that it was started from are there.
    with control_plane(tmp_path_factory.mktemp("plane")) as running:
        running.node("node1", cpus=16)
        running.node("node2", cpus=16)
        yield running


class Cluster:
    """A namespace, and what a kubelet would say in it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane, self.namespace = plane, f"l-{uuid.uuid4().hex[:6]}"
        self.path = f"/api/v1/namespaces/{self.namespace}"
        self.jobs_path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        plane.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})

    def arguments(self, *more: str) -> list[str]:
        return [f"--namespace={self.namespace}", *more]

    def submit_arguments(self, *more: str) -> list[str]:
        base = (f"--chart={CHART}", "--workers=2", "--gpus_per_worker=0", "--image=registry.test/mnist-train:1")
        return self.arguments(*base, *more)

    def submit(self, *more: str) -> Launching:
        return Launching(*self.submit_arguments(*more), kubeconfig=self.plane.kubeconfig)

    def run(self, *arguments: str) -> tuple[int, str]:
        return launched(*arguments, kubeconfig=self.plane.kubeconfig)

    def jobs(self) -> list[dict[str, Any]]:
        return list(self.plane.get(self.jobs_path)["items"])

    def pods(self) -> list[dict[str, Any]]:
        return list(self.plane.get(f"{self.path}/pods")["items"])

    def placed(self, count: int = 2) -> list[dict[str, Any]]:
        """Waits until so many pods have a node."""

        def there() -> list[dict[str, Any]] | None:
            pods = [pod for pod in self.pods() if pod["spec"].get("nodeName")]
            return pods if len(pods) >= count else None

        return list(until(30, f"{count} pods on nodes", there))

    def set(self, pod: dict[str, Any], phase: str, state: dict[str, Any]) -> None:
        """Writes a pod's status as its kubelet would."""
        status = {
            "phase": phase,
            "containerStatuses": [
                {"name": "worker", "state": state, "image": "", "imageID": "", "ready": True, "restartCount": 0}
            ],
        }
        self.plane.patch(f"{self.path}/pods/{pod['metadata']['name']}/status", {"status": status})

    def start(self) -> list[dict[str, Any]]:
        """Lets both workers run."""
        pods = self.placed()
        for pod in pods:
            self.set(pod, "Running", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
        return pods

    def finish(self, pod: dict[str, Any], code: int, message: dict[str, Any]) -> None:
        ended = {
            "exitCode": code,
            "message": json.dumps(message),
            "reason": "Error" if code else "Completed",
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:01:00Z",
        }
        self.set(pod, "Failed" if code else "Succeeded", {"terminated": ended})

    def empty(self) -> None:
        """Gives the nodes' room back; no kubelet would."""
        self.plane.request("DELETE", f"{self.jobs_path}?propagationPolicy=Background")
        self.plane.request("DELETE", f"{self.path}/pods?gracePeriodSeconds=0")
        until(60, "the end of its pods", lambda: not self.pods())


@pytest.fixture
def cluster(plane: ControlPlane) -> Iterator[Cluster]:
    used = Cluster(plane)
    yield used
    Launching.end_all()
    used.empty()


def chief(pods: list[dict[str, Any]]) -> dict[str, Any]:
    return next(p for p in pods if p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "0")


def test_an_api_server_restart_is_survived(plane: ControlPlane, cluster: Cluster) -> None:
    launching = cluster.submit()
    pods = cluster.start()
    launching.says("workers: 2 running")
    plane.stop("apiserver")
    launching.says("cannot be reached")
    plane.start_again("apiserver")
    until(60, "the API server", plane.ready)
    launching.says("the API server answers again")
    for pod in pods:
        cluster.finish(pod, 0, RESULT)
    assert launching.ends(60) == LaunchCode.DONE
    assert "succeeded: mnist-train reached validation accuracy 0.9800" in launching.text
    code, text = cluster.run("status", *cluster.arguments())
    assert (code, text.splitlines()[0][:10]) == (0, "succeeded:")


def test_a_running_release_is_refused_and_followed_and_replaced(cluster: Cluster) -> None:
    code, text = cluster.run(*cluster.submit_arguments("--detach"))
    assert code == LaunchCode.DONE
    assert f"follow it with: python -m trainer.launch attach --name=mnist-train --namespace={cluster.namespace}" in text
    (first,) = cluster.jobs()
    cluster.start()
    code, text = cluster.run(*cluster.submit_arguments())
    assert code == LaunchCode.NOT_STARTED
    assert "mnist-train is still running as the job" in text
    assert cluster.jobs()[0]["metadata"]["uid"] == first["metadata"]["uid"]

    attached = Launching("attach", *cluster.arguments(), kubeconfig=cluster.plane.kubeconfig)
    attached.says("workers: 2 running")
    attached.interrupt()
    assert attached.ends() == LaunchCode.INTERRUPTED
    assert "mnist-train goes on before its first step; only the watching has ended" in attached.text
    assert "come back with:  python -m trainer.launch attach --name=mnist-train" in attached.text

    code, text = cluster.run(*cluster.submit_arguments("--replace", "--detach"))
    assert code == LaunchCode.DONE, text
    until(30, "the end of the old job", lambda: len(cluster.jobs()) == 1)
    assert cluster.jobs()[0]["metadata"]["uid"] != first["metadata"]["uid"]
    code, text = cluster.run("list", *cluster.arguments())
    assert (code, "active" in text) == (0, True)


def test_a_job_that_somebody_deletes(cluster: Cluster) -> None:
    launching = cluster.submit()
    cluster.start()
    launching.says("workers: 2 running")
    (job,) = cluster.jobs()
    cluster.plane.request("DELETE", f"{cluster.jobs_path}/{job['metadata']['name']}?propagationPolicy=Background")
    assert launching.ends(60) == LaunchCode.FAILED
    assert "deleted: somebody removed the job" in launching.text


def test_watching_has_its_time(cluster: Cluster) -> None:
    launching = cluster.submit("--timeout=10")
    cluster.start()
    assert launching.ends(60) == LaunchCode.TIMEOUT
    assert "timed out: mnist-train has not ended within --timeout=10 s, it goes on" in launching.text
    assert "end it with:     python -m trainer.launch delete --name=mnist-train" in launching.text
    assert len(cluster.jobs()) == 1


def test_a_failed_worker_is_the_verdict_in_json_too(cluster: Cluster) -> None:
    launching = cluster.submit("--json")
    pods = cluster.start()
    why = "worker 0 ended with 64 (flags) at step 0: error: no"
    cluster.finish(chief(pods), 64, {"worker": 0, "exit_code": 64, "reason": why, "errors": ["error: no"]})
    assert launching.ends(60) == LaunchCode.TRAINING
    *_, verdict = launching.lines()
    assert verdict["event"] == "verdict"
    assert verdict["exit_code"] == LaunchCode.TRAINING
    assert verdict["first_cause"]["errors"] == ["error: no"]


def test_pods_that_no_quota_allows_and_the_time_for_them(cluster: Cluster) -> None:
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"requests.cpu": "1500m"}}}
    cluster.plane.create(f"{cluster.path}/resourcequotas", quota)
    until(30, "the quota", lambda: cluster.plane.get(f"{cluster.path}/resourcequotas/small")["status"].get("hard"))
    code, text = cluster.run(*cluster.submit_arguments())
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  quota: small leaves 1.5 of 1500m requests.cpu, 2 is asked for" in text
    assert cluster.jobs() == []
    larger = "--set=worker.resources.requests.cpu=2"
    code, text = cluster.run(*cluster.submit_arguments("--force", larger, "--pending_timeout=5"))
    assert code == LaunchCode.NOT_STARTED
    assert "the namespace's quota does not allow the pods" in text
    assert "removing mnist-train, which never started" in text
    assert cluster.jobs() == []


def test_an_install_that_fails_leaves_nothing(cluster: Cluster) -> None:
    service = {"metadata": {"name": "mnist-train"}, "spec": {"ports": [{"port": 1}]}}
    cluster.plane.create(f"{cluster.path}/services", service)
    code, text = cluster.run(*cluster.submit_arguments())
    assert code == LaunchCode.FAILED
    assert "helm upgrade failed" in text
    assert cluster.jobs() == []
    assert [s["metadata"]["name"] for s in cluster.plane.get(f"{cluster.path}/services")["items"]] == ["mnist-train"]
    assert cluster.plane.get(f"{cluster.path}/secrets")["items"] == []


@pytest.mark.parametrize("helm", ["helm", "helm3"])
def test_delete_leaves_nothing(cluster: Cluster, helm: str) -> None:
    code, text = cluster.run(*cluster.submit_arguments("--detach", f"--helm={helm}"))
    assert code == LaunchCode.DONE, text
    for pod in cluster.placed():  # No kubelet would end them.
        cluster.finish(pod, 0, RESULT)
    code, text = cluster.run("delete", *cluster.arguments(f"--helm={helm}"))
    assert (code, text) == (0, f"mnist-train is gone from namespace {cluster.namespace}")
    for path in ("pods", "services", "secrets"):
        assert cluster.plane.get(f"{cluster.path}/{path}")["items"] == []
    assert cluster.jobs() == []
    assert cluster.run("delete", *cluster.arguments())[0] == LaunchCode.FAILED


def test_what_preflight_finds(plane: ControlPlane, cluster: Cluster, tmp_path: pathlib.Path) -> None:
    code, text = cluster.run("doctor", *cluster.submit_arguments())
    assert code == LaunchCode.DONE, text
    assert "ok    rights: to make, watch and remove all of it" in text
    assert "ok    nodes: all 2 worker(s) fit now on 2 node(s)" in text

    code, text = cluster.run("doctor", *cluster.submit_arguments("--workers=100", "--image=x:latest"))
    assert code == LaunchCode.NOT_STARTED
    assert "at most 10 of 100 worker(s) ever fit on 2 node(s)" in text
    assert "FAIL  image: x:latest" in text

    code, text = cluster.run("doctor", f"--chart={CHART}", f"--namespace={cluster.namespace}")
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  GPUs: each worker asks for 1, and none of the 2 node(s) has any" in text

    code, text = cluster.run("doctor", f"--chart={CHART}", "--namespace=nowhere")
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  namespace: nowhere does not exist" in text
    assert "kubectl create namespace nowhere" in text

    code, text = cluster.run("doctor", *cluster.submit_arguments("--output=pvc:runs", "--set=job.queue=team"))
    assert code == LaunchCode.NOT_STARTED
    assert f"FAIL  output: there is no claim runs in {cluster.namespace}" in text
    assert "FAIL  queue: job.queue is team, and this cluster has no Kueue" in text

    config = plane.kubeconfig.read_text().replace("token: control-plane", "token: nobody")
    (tmp_path / "nobody.conf").write_text(config)
    code, text = launched("doctor", *cluster.submit_arguments(), kubeconfig=tmp_path / "nobody.conf")
    assert code == LaunchCode.NOT_STARTED
    assert "FAIL  rights: this user may not: create, patch, delete, list, watch jobs.batch; " in text
    assert "note  nodes: this user may not list nodes and pods" in text
